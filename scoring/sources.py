"""What a source of pictures is, and those made of picture files: paths and addresses, list files, folders and archives."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path, PurePath

import numpy as np
from pyarrow import fs

from model.errors import AgeGenderError
from model.image_formats import START_BYTES
from scoring.storage import Place, is_remote, version_in
from trainer.data.archives import Member, open_archive
from trainer.data.picture_files import HIDDEN, as_text, is_hidden, start_of, why_no_picture


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


class Source(ABC):
    """Pictures, in the same order each time."""

    @abstractmethod
    def __iter__(self) -> Iterator[Entry]: ...

    @abstractmethod
    def count(self) -> int:
        """Number of entries: exact, except for videos, where the header gives an estimate."""

    @abstractmethod
    def signature(self) -> str:
        """Changes when the entries or their order change."""

    def skipped(self) -> Counter[str]:
        """{kind: number of files} of what a folder or archive holds beside pictures; see `_kind_skipped`."""
        return Counter()


def content_at(location: str) -> Content:
    """What the pipeline takes for a path or address: the bytes from a store, else the path or http(s) URL itself.

    Raises:
        StorageError: the store has no such file, or a far too large one.
        StoreFaultError: the store fails.
    """
    return Place(location).read() if is_remote(location) else location


def failing(error: Exception) -> Callable[[], Content]:
    """A `read` that raises `error`."""

    def read() -> Content:
        raise error

    return read


def version_of(path: str | Path) -> str:
    """Changes when another file takes the place of this one; "" where there is no file, as for a URL and an address."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size}|{stat.st_mtime_ns}"


@dataclass(frozen=True)
class Found:
    """A path or address, with why it cannot be read, or of what kind it is if it is skipped.

    version: of a file in a store, as `version_of` says it of a path.
    """

    path: str
    problem: OSError | None = None
    skipped: str = ""
    version: str = ""


class Files(Source):
    """Picture files by their paths and addresses. One walk gives all but the entries, without reading a picture."""

    @abstractmethod
    def walk(self) -> Iterator[Found]: ...

    def __iter__(self) -> Iterator[Entry]:
        for found in self.walk():
            if not found.skipped:
                read = failing(found.problem) if found.problem else partial(content_at, found.path)
                yield Entry(as_text(found.path), read)

    def count(self) -> int:
        return self._totals[0]

    def signature(self) -> str:
        return self._totals[1]

    def skipped(self) -> Counter[str]:
        return self._totals[2]

    @cached_property
    def _totals(self) -> tuple[int, str, Counter[str]]:
        count, digest, skipped = 0, hashlib.sha256(), Counter[str]()
        for found in self.walk():
            if found.skipped:
                skipped[found.skipped] += 1
            else:
                count += 1
                version = found.version or version_of(found.path)
                digest.update(f"{as_text(found.path)}|{version}\0".encode())
        return count, digest.hexdigest(), skipped


@dataclass(frozen=True)
class Listed(Files):
    """Paths and addresses from the command line; `hidden` ones matched a pattern too, and are only counted.

    versions: {address: version} of files in a store.
    """

    names: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def walk(self) -> Iterator[Found]:
        yield from (Found(name, version=self.versions.get(name, "")) for name in self.names)
        yield from (Found(name, skipped=HIDDEN) for name in self.hidden)


@dataclass(frozen=True)
class ListFile(Files):
    """A text file with one path or address a line; paths are relative to the working directory."""

    path: Path

    def walk(self) -> Iterator[Found]:
        try:
            # -sig: PowerShell and Excel write a byte-order mark first
            with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
                yield from (Found(line.strip()) for line in file if line.strip())
        except OSError as error:
            raise InputError(f"The list {self.path} cannot be read: {error}.") from error


@dataclass(frozen=True)
class Folder(Files):
    """The pictures in a folder and the folders in it, sorted folder by folder.

    Only the names of one folder are in memory at a time. Links to folders are followed, but each folder is walked once.
    A folder that cannot be read has one entry that says so. A hidden folder is not walked, and counts as one hidden file.

    is_output: whether a path is where the results go, which may lie among the pictures.
    """

    path: Path
    is_output: Callable[[Path], bool] = lambda path: False

    def walk(self) -> Iterator[Found]:
        unreadable: list[OSError] = []
        seen: set[tuple[int, int]] = set()
        for parent, folders, files in os.walk(self.path, onerror=unreadable.append, followlinks=True):
            yield from (Found(error.filename, error) for error in unreadable)
            unreadable.clear()
            stat = os.stat(parent)
            if (stat.st_dev, stat.st_ino) in seen:  # a link led here, perhaps from inside this very folder
                folders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            hidden = [name for name in folders if is_hidden(name)]
            yield from (Found(os.path.join(parent, name), skipped=HIDDEN) for name in hidden)
            folders[:] = sorted(name for name in set(folders).difference(hidden) if not self._is_own(parent, name))
            for name in sorted(files):
                if not self._is_own(parent, name):
                    path = os.path.join(parent, name)
                    yield Found(path, skipped=_kind_skipped(name, partial(start_of, Path(path))))
        yield from (Found(error.filename, error) for error in unreadable)

    def _is_own(self, parent: str, name: str) -> bool:
        return self.is_output(Path(parent, name))


@dataclass(frozen=True)
class RemoteFolder(Files):
    """The pictures in a folder of a store and the folders in it, in the order of `Folder`, hidden ones left out as there.

    Raises:
        StorageError: a folder cannot be listed.
    """

    place: Place

    def walk(self) -> Iterator[Found]:
        listed = [(self.place.child(info.base_name), info) for info in self.place.list_folder()]
        folders = [place for place, info in listed if info.type == fs.FileType.Directory]
        yield from (Found(place.address, skipped=HIDDEN) for place in folders if is_hidden(_name(place)))
        for place, info in listed:
            if info.type == fs.FileType.File:
                kind = _kind_skipped(info.base_name, partial(place.read_start, START_BYTES))
                yield Found(place.address, skipped=kind, version=version_in(info))
        for place in folders:
            if not is_hidden(_name(place)):
                yield from RemoteFolder(place).walk()


@dataclass(frozen=True)
class Archive(Source):
    """The pictures in a .tar, .tar.gz, .tgz or .zip, read one by one: nothing is extracted to the disk."""

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        try:
            for name, read, skipped in self._members():
                if not skipped:
                    yield Entry(as_text(f"{self.path}/{name}"), _content_of(read))
        except AgeGenderError as error:  # the pictures before the damage, and other archives, are still scored
            yield Entry(as_text(str(self.path)), failing(error))

    def count(self) -> int:
        return self._totals[0]

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}"

    def skipped(self) -> Counter[str]:
        return self._totals[1]

    def _members(self) -> Iterator[tuple[str, Callable[[], Member], str]]:
        """Name, how to read it, and its kind if it is skipped."""
        for name, read in open_archive(self.path):
            read = cache(read)  # a tar can be read once only, and the content may tell the kind
            yield name, read, _kind_skipped(name, partial(_start_of_member, read))

    @cached_property
    def _totals(self) -> tuple[int, Counter[str]]:
        count, skipped = 0, Counter[str]()
        try:
            for _, _, kind in self._members():
                count += not kind
                skipped.update([kind] * bool(kind))
        except AgeGenderError:
            count += 1
        return count, skipped


def _kind_skipped(name: str, read_start: Callable[[], bytes]) -> str:
    """ "" for a picture, else `HIDDEN`, the name's suffix in small letters, or "without a suffix"."""
    problem = why_no_picture(name, read_start)
    return problem and (HIDDEN if problem == HIDDEN else as_text(PurePath(name).suffix.lower()) or "without a suffix")


def _name(place: Place) -> str:
    return place.address.rpartition("/")[2]


def _start_of_member(read: Callable[[], Member]) -> bytes:
    return read().content or b""


def _content_of(read_member: Callable[[], Member]) -> Callable[[], bytes]:
    def read() -> bytes:
        member = read_member()
        if member.content is None:
            raise InputError(member.problem)
        return member.content

    return read
