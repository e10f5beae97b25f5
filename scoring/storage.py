"""Files by their address: on a disk, in an object store (s3://, gs://), on the Hub (hf://), or wherever fsspec reaches."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from uuid import uuid4

import fsspec
import pyarrow as pa
from fsspec.utils import glob_translate
from pyarrow import fs

from model.decoding_limits import MAX_FILE_BYTES
from model.errors import AgeGenderError
from model.model_files import one_line


Result = TypeVar("Result")


class StorageError(AgeGenderError):
    """An address cannot be read or written."""


def is_remote(name: str) -> bool:
    """Whether it is the address of a store and neither a path nor a picture's http(s) URL, which the pipeline downloads."""
    return re.match(r"[a-z][a-z0-9+.-]+://", name) is not None and not name.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Place:
    """A file or folder by its address: a path, or scheme://path, which is not decoded: % is a character as others are.

    S3 takes its endpoint, region and credentials from the variables of Amazon's tools (AWS_ENDPOINT_URL, AWS_REGION,
    AWS_PROFILE, ...) and their files; hf:// takes HF_TOKEN or the login.

    Every method raises StorageError, in one line, where the store refuses, is not there, or has no such file.
    """

    address: str

    def child(self, name: str) -> "Place":
        return Place(f"{self.address.rstrip('/')}/{name}")

    def info(self) -> fs.FileInfo:
        """Kind, size and time; of kind NotFound if nothing is there."""
        return self._explained("read", lambda system, path: system.get_file_info(path))

    def list_folder(self) -> list[fs.FileInfo]:
        """What is directly in this folder, sorted by name; [] where there is no such folder."""
        listed = self._explained(
            "listed", lambda system, path: system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        )
        return sorted(listed, key=lambda info: info.base_name)

    def match(self) -> list[str]:
        """The addresses of the files that fit this one as a pattern, sorted: `*` stays in a folder, `**` does not."""
        start = re.split(r"[*?\[]", self.address, maxsplit=1)[0].rpartition("/")[0]
        found = Place(start)._explained(
            "listed",
            lambda system, path: system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True)),
        )
        scheme = self.address.partition("://")[0]
        names = (f"{scheme}://{info.path}" for info in found if info.type == fs.FileType.File)
        return sorted(filter(re.compile(glob_translate(self.address)).fullmatch, names))

    def open(self) -> pa.NativeFile:
        """For reading at any position; the caller closes it."""
        return self._explained("read", lambda system, path: system.open_input_file(path))

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
        """Let `fill` write the file, which appears only when it is whole: stores show nothing before, disks move it there."""

        def write(system: fs.FileSystem, path: str) -> None:
            if not isinstance(system, fs.LocalFileSystem):
                with system.open_output_stream(path) as file:
                    fill(file)
                return
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

    def delete(self) -> None:
        self._explained("removed", lambda system, path: system.delete_file(path))

    def _explained(self, done: str, use: Callable[[fs.FileSystem, str], Result]) -> Result:
        try:
            return use(*self._opened())
        except (OSError, ImportError, ValueError, pa.ArrowException) as error:
            if isinstance(error, AgeGenderError):
                raise
            hint = " Are its credentials set?" if is_remote(self.address) else ""
            raise StorageError(f"{self.address} cannot be {done}: {one_line(error)}.{hint}") from error

    def _opened(self) -> tuple[fs.FileSystem, str]:
        if not is_remote(self.address):
            return fs.LocalFileSystem(), os.path.abspath(self.address)
        scheme, _, path = self.address.partition("://")
        return _file_system(scheme, path.partition("/")[0]), path.rstrip("/")


@lru_cache(maxsize=64)
def _file_system(scheme: str, bucket: str) -> fs.FileSystem:
    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme in ("gs", "gcs"):
        return fs.GcsFileSystem()
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        # pyarrow reads neither variable of the endpoint, and asks Amazon for the region only if told to
        return fs.S3FileSystem(
            endpoint_override=endpoint, region=region or (None if endpoint else fs.resolve_s3_region(bucket))
        )
    return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
