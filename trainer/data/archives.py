"""Members of .tar, .tar.gz, .tgz and .zip archives, read into memory one by one: nothing is ever extracted."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO


ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_MEMBER_BYTES = 64 * 2**20
MAX_EXPANSION = 200  # times the archive's size: pictures hardly compress, a bomb of zeros does a thousandfold
_SPARE_BYTES = 64 * 2**20  # a small archive may expand more

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError)
# of one member: encrypted, its checksum is wrong, or it does not unpack
_UNREADABLE = (RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive. `content` is None where `problem` says why it was not read."""

    name: str
    content: bytes | None
    problem: str = ""


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def read_archive(path: Path) -> Iterator[Member]:
    """Every entry of the archive but its folders, in the archive's order.

    Raises:
        ValueError: the file is no archive, is damaged, or expands like a decompression bomb.
    """
    for _, read in open_archive(path):
        yield read()


def open_archive(path: Path) -> Iterator[tuple[str, Callable[[], Member]]]:
    """As `read_archive`, but each entry's name and a function that reads it, to be called before the next is asked for.

    Raises:
        ValueError: as `read_archive` does; also while an entry is read.
    """
    entries = _zip_entries if path.name.lower().endswith(".zip") else _tar_entries
    budget = path.stat().st_size * MAX_EXPANSION + _SPARE_BYTES
    with _damage_explained(path):
        for name, size, is_file, read in entries(path):
            budget -= size
            if budget < 0:
                raise ValueError(
                    f"{path} expands to more than {MAX_EXPANSION} times its size, like a decompression bomb. "
                    "If you trust it, unpack it yourself and give the folder."
                )
            yield name, partial(_read_member, path, name, size, is_file, read)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"{path} cannot be read as an archive ({error}): is the download complete?") from error


def _read_member(archive: Path, name: str, size: int, is_file: bool, read: Callable[[], bytes]) -> Member:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return Member(name, None, "unsafe path in archive: it leaves the archive's folder")
    if not is_file:
        return Member(name, None, "link or device in archive: only plain files are read")
    if size > MAX_MEMBER_BYTES:
        return Member(name, None, f"too large: {size} bytes, at most {MAX_MEMBER_BYTES} are read")
    with _damage_explained(archive):
        try:
            return Member(name, read())
        except _UNREADABLE as error:
            return Member(name, None, f"unreadable: {error}")


def _tar_entries(path: Path) -> Iterator[tuple[str, int, bool, Callable[[], bytes]]]:
    with tarfile.open(path, "r|*") as archive:
        for info in archive:
            if not info.isdir():
                yield info.name, info.size, info.isreg(), lambda info=info: _read(archive.extractfile(info))


def _zip_entries(path: Path) -> Iterator[tuple[str, int, bool, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
                yield info.filename, info.file_size, not is_link, lambda info=info: _read(archive.open(info))


def _read(file: BinaryIO) -> bytes:
    with file:
        content = file.read(MAX_MEMBER_BYTES + 1)
    if len(content) > MAX_MEMBER_BYTES:
        raise RuntimeError(f"more than {MAX_MEMBER_BYTES} bytes, whatever the archive's header says")
    return content
