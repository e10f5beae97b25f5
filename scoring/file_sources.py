"""Pictures that are files: listed one by one, in folders, in list files and in archives."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scoring.entries import PICTURE_SUFFIXES, Entry, as_text, failing
from trainer.archives import Member, open_archive


class _Walked:
    """A source whose count and signature come from walking it once without reading a picture."""

    def count(self) -> int:
        return self._walked[0]

    def signature(self) -> str:
        return self._walked[1]

    @cached_property
    def _walked(self) -> tuple[int, str]:
        count, digest = 0, hashlib.sha256()
        for entry in self:
            count += 1
            digest.update(entry.name.encode() + b"\0")
        return count, digest.hexdigest()


@dataclass(frozen=True)
class Listed(_Walked):
    """Paths and http(s) URLs as they were given."""

    names: tuple[str, ...]

    def __iter__(self) -> Iterator[Entry]:
        return _named(self.names)


@dataclass(frozen=True)
class ListFile(_Walked):
    """A text file with one path or http(s) URL a line; paths are relative to the working directory."""

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
            yield from _named(line.strip() for line in file if line.strip())


@dataclass(frozen=True)
class Folder(_Walked):
    """The pictures anywhere in a folder, sorted within each folder: a million names are never in memory at once
    unless one folder holds them.
    """

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        for parent, folders, files in os.walk(self.path):
            folders.sort()
            yield from _named(os.path.join(parent, name) for name in sorted(files) if _is_picture(name))


@dataclass(frozen=True)
class Archive(_Walked):
    """The pictures in a .tar, .tar.gz, .tgz or .zip, read one by one: nothing is extracted to the disk."""

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        try:
            for name, read in open_archive(self.path):
                if _is_picture(name):
                    yield Entry(as_text(f"{self.path}/{name}"), _content_of(read))
        except ValueError as error:  # what came before the damage counts, and what comes after this archive too
            yield Entry(as_text(str(self.path)), failing(error))


def _named(names: Iterable[str]) -> Iterator[Entry]:
    return (Entry(as_text(name), lambda name=name: name) for name in names)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_SUFFIXES)


def _content_of(read_member: Callable[[], Member]) -> Callable[[], bytes]:
    def read() -> bytes:
        member = read_member()
        if member.content is None:
            raise ValueError(member.problem)
        return member.content

    return read
