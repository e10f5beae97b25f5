"""Files by their address: on a disk, in an object store (s3://, gs://), on the Hub (hf://), or wherever fsspec reaches."""

import io
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar
from uuid import uuid4

import fsspec
import httpx
import pyarrow as pa
from fsspec.utils import glob_translate
from pyarrow import fs

from model.decoding_limits import MAX_FILE_BYTES
from model.errors import AgeGenderError
from model.model_files import one_line


Result = TypeVar("Result")

SECONDS_OF_GOOGLES_CLIENT = timedelta(seconds=30)  # in which it tries a request again; by default 15 minutes
GOOGLE = ("gs://", "gcs://")
PAUSES_SECONDS = (1.0, 4.0, 15.0)  # before a file's content is asked for, or written, once more


class StorageError(AgeGenderError):
    """An address cannot be read or written."""


class StoreFaultError(StorageError):
    """A store does not answer, or refuses: that says nothing of the file, which another try may find whole."""


def is_remote(name: str) -> bool:
    """Whether it is the address of a store and neither a path nor a picture's http(s) URL, which the pipeline downloads."""
    return re.match(r"[a-z][a-z0-9+.-]+://", name) is not None and not name.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Place:
    """A file or folder by its address: a path, or scheme://path, which is not decoded: % is a character as others are.

    S3 takes its endpoint, region and credentials from the variables of Amazon's tools (AWS_ENDPOINT_URL, AWS_REGION,
    AWS_PROFILE, ...) and their files; gs:// takes Google's own credentials, or the server that STORAGE_EMULATOR_HOST names;
    hf:// takes HF_TOKEN or the login.

    Every method raises StorageError, in one line, where there is no such file or store, and StoreFaultError where the store
    refuses or is not there; what lists a folder, or reads or writes a file, tries again after each of `PAUSES_SECONDS`.
    """

    address: str

    def child(self, name: str) -> "Place":
        return Place(f"{self.address.rstrip('/')}/{name}")

    def info(self) -> fs.FileInfo:
        """Kind, size and time; of kind NotFound if nothing is there."""
        return self._explained("read", lambda system, path: system.get_file_info(path))

    def list_folder(self) -> list[fs.FileInfo]:
        """What is directly in this folder, sorted by name; [] where there is no such folder."""
        # Of Google's store pyarrow lists the objects alone, and no folder that has none of its own.
        recursive = self.address.startswith(GOOGLE)
        found = self._list(recursive=recursive)
        return sorted(
            _directly_in(self.address.partition("://")[2].rstrip("/"), found) if recursive else found,
            key=lambda info: info.base_name,
        )

    def match(self) -> dict[str, str]:
        """{address: version} of the files that fit this one as a pattern, sorted: `*` stays in a folder, `**` does not."""
        start = re.split(r"[*?\[]", self.address, maxsplit=1)[0].rpartition("/")[0]
        found = Place(start)._list(recursive=True)
        scheme = self.address.partition("://")[0]
        files = {f"{scheme}://{info.path}": version_in(info) for info in found if info.type == fs.FileType.File}
        fits = re.compile(glob_translate(self.address)).fullmatch
        return {address: files[address] for address in sorted(files) if fits(address)}

    def size(self) -> int:
        """Of a file, in bytes."""
        with self.open() as file:
            return file.size()

    def open(self) -> "pa.NativeFile | _StoreFile":
        """For reading at any position; the caller closes it."""
        return _StoreFile(self) if is_remote(self.address) else self._open_once()

    def read(self, limit: int = MAX_FILE_BYTES) -> bytes:
        """All of a file of at most `limit` bytes."""
        with self.open() as file:
            size = file.size()
            if size > limit:
                raise StorageError(f"{self.address} has {size:,} bytes; at most {limit:,} are read.")
            return self._explained("read", lambda system, path: file.read())

    def read_start(self, length: int) -> bytes:
        """The first bytes of a file."""
        with self.open() as file:
            return self._explained("read", lambda system, path: file.read(length))

    def write(self, fill: Callable[[pa.NativeFile], object]) -> None:
        """Let `fill` write the file, which appears only when it is whole: a store gets it at once, on a disk it is moved."""
        if is_remote(self.address) and not self.address.startswith("file:"):
            whole = pa.BufferOutputStream()
            fill(whole)  # not into the store: closing the file there publishes what was written before an error
            content = whole.getvalue()

            def send(system: fs.FileSystem, path: str) -> None:
                with system.open_output_stream(path) as file:
                    file.write(content)

            _again(lambda: self._explained("written", send))
            return

        def write(system: fs.FileSystem, path: str) -> None:
            folder, name = os.path.split(path)
            os.makedirs(folder, exist_ok=True)
            unfinished = os.path.join(folder, f".{name}.{uuid4().hex}.unfinished")
            try:
                with system.open_output_stream(unfinished) as file:
                    fill(file)
                with open(unfinished, "rb+") as written:
                    os.fsync(written.fileno())
                os.replace(unfinished, path)
            finally:
                with suppress(FileNotFoundError):  # on a full disk it would take what space is left
                    os.unlink(unfinished)

        self._explained("written", write)

    def _list(self, *, recursive: bool) -> list[fs.FileInfo]:
        def list_it(system: fs.FileSystem, path: str) -> list[fs.FileInfo]:
            return system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=recursive))

        return _again(lambda: self._explained("listed", list_it))

    def _open_once(self) -> pa.NativeFile:
        return self._explained("read", lambda system, path: system.open_input_file(path))

    def _explained(self, done: str, use: Callable[[fs.FileSystem, str], Result]) -> Result:
        try:
            return use(*self._resolve())
        except (OSError, ImportError, ValueError, pa.ArrowException, httpx.HTTPError) as error:
            if isinstance(error, AgeGenderError):
                raise
            hint = " Are its credentials set?" if is_remote(self.address) else ""
            is_fault = isinstance(error, (OSError, httpx.HTTPError)) and not isinstance(error, FileNotFoundError)
            kind = StoreFaultError if is_fault and is_remote(self.address) else StorageError
            raise kind(f"{self.address} cannot be {done}: {one_line(error).rstrip('.')}.{hint}") from error

    def _resolve(self) -> tuple[fs.FileSystem, str]:
        if not is_remote(self.address):
            return fs.LocalFileSystem(), os.path.abspath(self.address)
        scheme, _, path = self.address.partition("://")
        return _file_system(scheme, path.partition("/")[0]), path.rstrip("/")


class _StoreFile(io.RawIOBase):
    """A file in a store, for reading at any position; after a fault it is opened again. Raises what `Place` does."""

    def __init__(self, place: Place):
        self._place, self._at = place, 0
        self._file: pa.NativeFile | None = None
        self._size = _again(lambda: self._use(lambda file: file.size()))

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        length = max(0, self._size - self._at if size < 0 else min(size, self._size - self._at))
        content = _again(lambda: self._use(lambda file: file.read_at(length, self._at)))
        self._at += len(content)
        return content

    def close(self) -> None:
        self._close_file()
        super().close()

    def _use(self, use: Callable[[pa.NativeFile], Result]) -> Result:
        if self._file is None:
            self._file = self._place._open_once()
        file = self._file
        try:
            return self._place._explained("read", lambda system, path: use(file))
        except StoreFaultError:
            self._close_file()
            raise

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # of a connection that is lost
                file.close()


def _directly_in(folder: str, files: list[fs.FileInfo]) -> list[fs.FileInfo]:
    """The files and folders in a folder, of all files below it."""
    start = f"{folder}/"
    found: dict[str, fs.FileInfo] = {}
    for info in files:
        name, is_below, _ = info.path.removeprefix(start).partition("/")
        found[name] = fs.FileInfo(f"{start}{name}", fs.FileType.Directory) if is_below else found.get(name, info)
    return list(found.values())


def version_in(info: fs.FileInfo) -> str:
    """Changes when another file takes the place of this one."""
    return f"{info.size}|{info.mtime_ns}"


def _again(use: Callable[[], Result]) -> Result:
    """Call it, after a fault of the store once more after each pause."""
    for pause in PAUSES_SECONDS:
        with suppress(StoreFaultError):
            return use()
        time.sleep(pause)
    return use()


@lru_cache(maxsize=64)
def _file_system(scheme: str, bucket: str) -> fs.FileSystem:
    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme in ("gs", "gcs"):
        limits = {"retry_time_limit": SECONDS_OF_GOOGLES_CLIENT}
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")  # the variable of Google's own clients
        if not emulator:
            return fs.GcsFileSystem(**limits)
        protocol, _, host = emulator.rstrip("/").rpartition("://")
        return fs.GcsFileSystem(anonymous=True, endpoint_override=host, scheme=protocol or "http", **limits)
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        # pyarrow reads neither variable of the endpoint, and asks Amazon for the region only if told to
        return fs.S3FileSystem(
            endpoint_override=endpoint, region=region or (None if endpoint else fs.resolve_s3_region(bucket))
        )
    return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
