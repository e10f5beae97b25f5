"""Pictures that are files: listed one by one, in folders, in list files and in archives."""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from model.image_loading import SUFFIXES
from scoring.mp4 import MP4_SUFFIXES, shown_seconds
from trainer.data.archives import Member, open_archive
from trainer.data.sources import as_text


Content = str | bytes | np.ndarray  # what the pipeline takes: path or URL, encoded bytes, (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class Entry:
    """name: as it stands in the results. read: gives the content, or raises a ValueError or OSError that says why not;
    to be called before the next entry is asked for, since archives and videos only go forwards. seconds: of a video.
    """

    name: str
    read: Callable[[], Content]
    seconds: float | None = None


class Source(Protocol):
    """Pictures in an order that is the same whenever the source is the same."""

    def __iter__(self) -> Iterator[Entry]: ...

    def count(self) -> int:
        """How many entries there are: exact, but for a video estimated from its header."""

    def signature(self) -> str:
        """Changes when the entries or their order do."""


def failing(error: Exception) -> Callable[[], Content]:
    """A `read` for what cannot be read."""

    def read() -> Content:
        raise error

    return read


def version_of(path: str | Path) -> str:
    """Tells a file from another one that takes its place; "" for what is no file here, such as a URL."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size}|{stat.st_mtime_ns}"


class _Files(ABC):
    """Files and http(s) URLs, whose count and signature come from walking them once without reading a picture."""

    @abstractmethod
    def paths(self) -> Iterable[str]: ...

    def __iter__(self) -> Iterator[Entry]:
        return (Entry(as_text(path), lambda path=path: path) for path in self.paths())

    def count(self) -> int:
        return self._walked[0]

    def signature(self) -> str:
        return self._walked[1]

    @cached_property
    def _walked(self) -> tuple[int, str]:
        count, digest = 0, hashlib.sha256()
        for path in self.paths():
            count += 1
            digest.update(f"{as_text(path)}|{version_of(path)}\0".encode())
        return count, digest.hexdigest()


@dataclass(frozen=True)
class Listed(_Files):
    """Paths and http(s) URLs as they were given."""

    names: tuple[str, ...]

    def paths(self) -> Iterable[str]:
        return self.names


@dataclass(frozen=True)
class ListFile(_Files):
    """A text file with one path or http(s) URL a line; paths are relative to the working directory."""

    path: Path

    def paths(self) -> Iterator[str]:
        # -sig: PowerShell and Excel begin a file with a byte-order mark
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from (line.strip() for line in file if line.strip())


@dataclass(frozen=True)
class Folder(_Files):
    """The pictures anywhere in a folder, sorted within each folder: a million names are never in memory at once
    unless one folder holds them. Links to folders are followed, but no folder is looked through twice; one that cannot
    be read has an entry that says so.
    """

    path: Path

    def __iter__(self) -> Iterator[Entry]:
        for path, problem in self._walk():
            yield Entry(as_text(path), failing(problem) if problem else lambda path=path: path)

    def paths(self) -> Iterator[str]:
        return (path for path, _ in self._walk())

    def _walk(self) -> Iterator[tuple[str, OSError | None]]:
        unreadable: list[OSError] = []
        seen: set[tuple[int, int]] = set()
        for parent, folders, files in os.walk(self.path, onerror=unreadable.append, followlinks=True):
            yield from ((error.filename, error) for error in unreadable)
            unreadable.clear()
            stat = os.stat(parent)
            if (stat.st_dev, stat.st_ino) in seen:  # by a link, which may lead back to where it lies
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
        except ValueError as error:  # what came before the damage counts, and what comes after this archive too
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
            raise ValueError(member.problem)
        return member.content

    return read


VIDEO_SUFFIXES = (*MP4_SUFFIXES, ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mjpeg")


@dataclass(frozen=True)
class Video:
    """The first frame at or after 0, 1 / frames_per_second, 2 / frames_per_second ... seconds, upright."""

    path: Path
    frames_per_second: float

    def __iter__(self) -> Iterator[Entry]:
        name = as_text(str(self.path))
        capture = cv2.VideoCapture(str(self.path))
        try:
            if not capture.isOpened():
                yield Entry(name, failing(ValueError("not a video that OpenCV can read, or damaged at its start")))
                return
            frame_rate, promised = capture.get(cv2.CAP_PROP_FPS), self._promised_frames(capture)
            frames = sampled = 0
            seconds = 0.0
            while capture.grab():
                # Files with a varying frame rate carry a time for each frame; some carry none at all.
                clock = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                seconds = clock if clock > seconds or not frames else frames / (frame_rate or 25)
                if seconds + 1e-6 >= sampled / self.frames_per_second:
                    yield Entry(name, lambda: _retrieve(capture), seconds)
                    sampled = math.floor((seconds + 1e-6) * self.frames_per_second) + 1
                frames += 1
            if frames < 0.9 * promised:  # headers are often wrong by a few frames
                problem = f"damaged: it ends after {frames} of {promised:.0f} frames"
                yield Entry(name, failing(ValueError(problem)), seconds)
        finally:
            capture.release()

    def count(self) -> int:
        capture = cv2.VideoCapture(str(self.path))
        frame_rate, frames = capture.get(cv2.CAP_PROP_FPS), self._promised_frames(capture)
        capture.release()
        share = min(self.frames_per_second / frame_rate, 1) if frame_rate > 0 else 1
        return max(math.ceil(frames * share), 1)

    def _promised_frames(self, capture: cv2.VideoCapture) -> float:
        """As many as the file holds, or fewer where it is trimmed: those in front of its beginning are not shown."""
        held, frame_rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        if self.path.suffix.lower() not in MP4_SUFFIXES or not frame_rate > 0:
            return held
        return min(held, shown_seconds(self.path) * frame_rate)

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}|{self.frames_per_second}"


def _retrieve(capture: cv2.VideoCapture) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the frame that was grabbed."""
    whole, frame_bgr = capture.retrieve()
    if not whole:
        raise ValueError("this frame is damaged")
    return cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)
