"""Read the members of .tar, .tar.gz, .tgz and .zip archives into memory, one at a time. Nothing is written to disk.

An archive is untrusted input: links, paths that leave the archive, and decompression bombs are refused.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from trainer.data import DatasetError


ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_MEMBER_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 2**20  # before a member of a .tar: a long name or extended attributes, which tarfile reads whole
MAX_EXPANSION = 200  # times the archive's size: pictures hardly compress, while zeros shrink a thousandfold
SPARE_BYTES = 64 * 2**20  # on top of that, so that a small archive may expand more

# what tarfile and zipfile raise for a damaged archive, and for a damaged or encrypted member of an intact one
_DAMAGED_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError)
_DAMAGED_MEMBER = (RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)

_HEADER_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_Entry = tuple[str, int, bool, Callable[[], bytes]]  # name, size in bytes, whether it is a plain file, how to read it


@dataclass(frozen=True)
class Member:
    """One file of an archive. `content` is None where `problem` says why it was not read."""

    name: str
    content: bytes | None
    problem: str = ""


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def read_archive(path: Path) -> Iterator[Member]:
    """Every member except folders, in the archive's order.

    Raises:
        DatasetError: the file is not an archive, is damaged, or expands like a decompression bomb.
    """
    for _, read in open_archive(path):
        yield read()


def open_archive(path: Path) -> Iterator[tuple[str, Callable[[], Member]]]:
    """As `read_archive`, with a function that reads the member in its place: it must be called before the next iteration.

    Raises:
        DatasetError: as `read_archive`; the returned function raises it too.
    """
    entries = _zip_entries if path.name.lower().endswith(".zip") else _tar_entries
    budget = budget_bytes(path.stat().st_size)
    with _damage_as_dataset_error(path):
        for name, size, is_file, read in entries(path):
            budget -= size
            if budget < 0:
                raise _expands(path)
            yield name, partial(_read_member, path, name, size, is_file, read)


def read_tar(name: str, file: IO[bytes]) -> Iterator[Member]:
    """The members of a .tar, compressed or not, that is read forwards, as from an address; see `read_archive`.

    Args:
        name: what messages call it.
    """
    counted = _Counted(file)
    expanded = 0
    with (
        _damage_as_dataset_error(name),
        tarfile.open(fileobj=cast(IO[bytes], counted), mode="r|*", tarinfo=_LimitedTarInfo) as archive,
    ):
        for info in archive:
            expanded += info.size
            if expanded > budget_bytes(counted.bytes_read):
                raise _expands(name)
            if not info.isdir():
                read = partial(_read_tar_member, archive, info)
                yield _read_member(name, _with_slashes(info.name), info.size, info.isreg(), read)
            archive.members = []  # type: ignore[attr-defined]  # which it would keep until the end


def check_zip(path: Path) -> None:
    """Before something else unpacks it to the disk.

    Raises:
        DatasetError: as `read_archive`; or it is an archive of another kind, whatever its name says.
    """
    with _damage_as_dataset_error(path):
        if sum(size for _, size, _, _ in _zip_entries(path)) > budget_bytes(path.stat().st_size):
            raise _expands(path)


def budget_bytes(size: int) -> int:
    """What a file of `size` bytes may become when it is unpacked."""
    return size * MAX_EXPANSION + SPARE_BYTES


def _expands(path: Path | str) -> DatasetError:
    return DatasetError(
        f"{path} expands to more than {MAX_EXPANSION} times its size, like a decompression bomb. "
        "If you trust it, unpack it yourself and give the folder."
    )


@contextmanager
def _damage_as_dataset_error(path: Path | str) -> Iterator[None]:
    try:
        yield
    except _HeaderTooLongError as error:
        raise DatasetError(f"{path} {error}") from error
    except _DAMAGED_ARCHIVE as error:
        raise DatasetError(f"{path} cannot be read as an archive ({error}): is the download complete?") from error


def _read_member(archive: Path | str, name: str, size: int, is_file: bool, read: Callable[[], bytes]) -> Member:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return Member(name, None, "unsafe path in archive: it leaves the archive's folder")
    if not is_file:
        return Member(name, None, "link or device in archive: only plain files are read")
    if size > MAX_MEMBER_BYTES:
        return Member(name, None, f"too large: {size} bytes, at most {MAX_MEMBER_BYTES} are read")
    with _damage_as_dataset_error(archive):
        try:
            return Member(name, read())
        except _DAMAGED_MEMBER as error:
            return Member(name, None, f"unreadable: {error}")


class _Counted:
    """What tarfile needs of a file that it reads forwards, and how much of it was read."""

    def __init__(self, file: IO[bytes]):
        self._file, self.bytes_read = file, 0

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self.bytes_read += len(content)
        return content


class _HeaderTooLongError(Exception):
    """The message follows the path of the archive."""


class _LimitedTarInfo(tarfile.TarInfo):
    """https://docs.python.org/3.11/library/tarfile.html#tarfile.TarFile.tarinfo"""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _HEADER_TYPES and header.size > MAX_HEADER_BYTES:
            raise _HeaderTooLongError(
                f"has a header of {header.size:,} bytes; at most {MAX_HEADER_BYTES:,} are read. If you trust it, unpack it "
                "yourself and give the folder."
            )
        return header


def _tar_entries(path: Path) -> Iterator[_Entry]:
    with tarfile.open(path, "r|*", tarinfo=_LimitedTarInfo) as archive:
        for info in archive:
            if not info.isdir():
                yield _with_slashes(info.name), info.size, info.isreg(), partial(_read_tar_member, archive, info)


def _zip_entries(path: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not _with_slashes(info.filename).endswith("/"):
                is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
                yield (
                    _with_slashes(info.filename),
                    info.file_size,
                    not is_link,
                    partial(_read_zip_member, archive, info),
                )


def _with_slashes(name: str) -> str:
    """Some programs on Windows write folder\\picture.jpg."""
    return name.replace("\\", "/")


def _read_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    assert file is not None, "only plain files are read"
    return _read(file)


def _read_zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    return _read(archive.open(info))


def _read(file: IO[bytes]) -> bytes:
    with file:
        content = file.read(MAX_MEMBER_BYTES + 1)
    if len(content) > MAX_MEMBER_BYTES:
        raise RuntimeError(f"it holds more than {MAX_MEMBER_BYTES} bytes, although its header says less")
    return content
