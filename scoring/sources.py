"""What a source of pictures is, and those made of picture files: paths, list files, folders and archives."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from model.errors import AgeGenderError
from model.image_formats import SUFFIXES
from trainer.data.archives import Member, open_archive
from trainer.data.sources import as_text


Content = str | bytes | np.ndarray  # what the pipeline takes: path or URL, encoded bytes, (H, W, 3) uint8 RGB


class InputError(AgeGenderError):
    """The input, or one of its pictures, cannot be read."""


@dataclass(frozen=True)
class Entry:
    """One picture of a source.

    name: what the results call it.
    read: returns the content, or raises an error that says why not. Call it before the next entry is taken: archives
        and tables are read forwards only.
    seconds: place in a video.
    """

    name: str
    read: Callable[[], Content]
    seconds: float | None = None


class Source(Protocol):
    """Pictures, in the same order each time."""

    def __iter__(self) -> Iterator[Entry]: ...

    def count(self) -> int:
        """Number of entries: exact, except for videos, where the header gives an estimate."""

    def signature(self) -> str:
        """Changes when the entries or their order change."""


def given(content: Content) -> Callable[[], Content]:
    """A `read` for content that needs no reading."""
    return lambda: content


def failing(error: Exception) -> Callable[[], Content]:
    """A `read` that raises `error`."""

    def read() -> Content:
        raise error

    return read


def version_of(path: str | Path) -> str:
    """Changes when another file takes the place of this one; "" where there is no file, as for a URL."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size}|{stat.st_mtime_ns}"


class _Files(ABC):
    """Picture files and http(s) URLs. One walk gives count and signature, without reading a picture."""

    @abstractmethod
    def paths(self) -> Iterable[str]: ...

    def __iter__(self) -> Iterator[Entry]:
        return (Entry(as_text(path), given(path)) for path in self.paths())

    def count(self) -> int:
        return self._count_and_signature[0]

    def signature(self) -> str:
        return self._count_and_signature[1]

    @cached_property
    def _count_and_signature(self) -> tuple[int, str]:
        count, digest = 0, hashlib.sha256()
        for path in self.paths():
            count += 1
            digest.update(f"{as_text(path)}|{version_of(path)}\0".encode())
        return count, digest.hexdigest()


@dataclass(frozen=True)
class Listed(_Files):
    """Paths and http(s) URLs from the command line."""

    names: tuple[str, ...]

    def paths(self) -> Iterable[str]:
        return self.names


@dataclass(frozen=True)
class ListFile(_Files):
    """A text file with one path or http(s) URL a line; paths are relative to the working directory."""

    path: Path

    def paths(self) -> Iterator[str]:
        try:
            # -sig: PowerShell and Excel write a byte-order mark first
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
                yield from (line.strip() for line in file if line.strip())
        except OSError as error:
            raise InputError(f"The list {self.path} cannot be read: {error}.") from error


@dataclass(frozen=True)
class Folder(_Files):
    """The pictures in a folder and the folders in it, sorted folder by folder.

    Only the names of one folder are in memory at a time. Links to folders are followed, but each folder is walked once.
    A folder that cannot be read has one entry that says so.
    """

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        for path, problem in self._walk():
            yield Entry(as_text(path), failing(problem) if problem else given(path))

    def paths(self) -> Iterator[str]:
        return (path for path, _ in self._walk())

    def _walk(self) -> Iterator[tuple[str, OSError | None]]:
        unreadable: list[OSError] = []
        seen: set[tuple[int, int]] = set()
        for parent, folders, files in os.walk(self.path, onerror=unreadable.append, followlinks=True):
            yield from ((error.filename, error) for error in unreadable)
            unreadable.clear()
            stat = os.stat(parent)
            if (stat.st_dev, stat.st_ino) in seen:  # a link led here, perhaps from inside this very folder
                folders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            folders.sort()
            yield from ((os.path.join(parent, name), None) for name in sorted(files) if _is_picture(name))
        yield from ((error.filename, error) for error in unreadable)


@dataclass(frozen=True)
class Archive:
    """The pictures in a .tar, .tar.gz, .tgz or .zip, read one by one: nothing is extracted to the disk."""

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        try:
            for name, read in open_archive(self.path):
                if _is_picture(name):
                    yield Entry(as_text(f"{self.path}/{name}"), _content_of(read))
        except AgeGenderError as error:  # the pictures before the damage, and other archives, are still scored
            yield Entry(as_text(str(self.path)), failing(error))

    def count(self) -> int:
        return self._entries

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}"

    @cached_property
    def _entries(self) -> int:
        return sum(1 for _ in self)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _content_of(read_member: Callable[[], Member]) -> Callable[[], bytes]:
    def read() -> bytes:
        member = read_member()
        if member.content is None:
            raise InputError(member.problem)
        return member.content

    return read
