"""From what a user names, such as a folder, a pattern or a dataset, to sources of pictures and what is known of them."""

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from model.image_formats import SUFFIXES
from scoring.output import parts_folder
from scoring.sources import Archive, Entry, Folder, InputError, Listed, ListFile, Source
from scoring.tables import HubDataset, ParquetFile
from scoring.video import VIDEO_SUFFIXES, Video
from trainer.data.archives import ARCHIVE_SUFFIXES


LIST_SUFFIX = ".txt"
EXPECTED = (
    "a picture, an http(s) URL, a folder, a quoted pattern, a .tar, .tar.gz, .tgz or .zip, a .txt with a path a line, "
    "a .parquet, a video, or the id of a dataset on the Hub"
)


def open_sources(
    names: Iterable[str],
    *,
    image_column: str = "image",
    revision: str | None = None,
    frames_per_second: float = 1.0,
    output: Path | None = None,
) -> list[Source]:
    """Open what `names` stand for, in the order given; the files that fit a pattern are sorted.

    Args:
        names: see `EXPECTED`.
        image_column: column of pictures in parquet files and datasets on the Hub.
        revision: branch, tag or commit of a dataset on the Hub.
        frames_per_second: how many frames of each second of a video are taken.
        output: file of the results, which no pattern matches, nor the unfinished parts beside it.

    Raises:
        InputError: there is nothing at a path, a pattern fits nothing, `frames_per_second` is not above 0, or the input
            is only parquet files of which none can be read.
    """
    if not frames_per_second > 0:
        raise InputError(f"Expected --frames-per-second above 0, got {frames_per_second}.")
    expanded = [name for given in names for name in _expand(given, output)]
    sources: list[Source] = []
    for is_single, run in groupby(expanded, _is_single):
        if is_single:
            sources.append(Listed(tuple(run)))
        else:
            sources += [_open(name, image_column, revision, frames_per_second) for name in run]
    problems = [source.problem if isinstance(source, ParquetFile) else None for source in sources]
    if problems and all(problems):  # one bad file among others has a row that says so; all bad is a mistake
        raise InputError(problems[0])
    return sources


def all_entries(sources: Iterable[Source]) -> Iterator[Entry]:
    """The pictures of all sources, in order."""
    return (entry for source in sources for entry in source)


@dataclass(frozen=True)
class InputSummary:
    """How many pictures there are (of videos an estimate), and a hash that changes when they do."""

    pictures: int
    signature: str

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "InputSummary":
        """
        Raises:
            InputError: there is no picture.
        """
        counts = [source.count() for source in sources]
        if not sum(counts):
            raise InputError("Expected pictures in the input, found none.")
        signatures = "\n".join(f"{count} {source.signature()}" for count, source in zip(counts, sources, strict=True))
        return cls(sum(counts), hashlib.sha256(signatures.encode(errors="surrogateescape")).hexdigest())


def _expand(name: str, output: Path | None) -> list[str]:
    """The files that fit a pattern, sorted; any other name as it is."""
    if _is_url(name) or Path(name).exists() or not glob.has_magic(name):
        return [name]
    found = sorted(set(glob.glob(name, recursive=True)))
    if "**" in name:  # it matches the folders' files too
        found = [path for path in found if not Path(path).is_dir()]
    # a .txt among pictures is more likely a README than a list
    found = [path for path in found if not path.lower().endswith(LIST_SUFFIX)]
    if output:
        found = [path for path in found if not _is_output(Path(os.path.abspath(path)), Path(os.path.abspath(output)))]
    if not found:
        raise InputError(f"The pattern {name} fits no file (a {LIST_SUFFIX} of paths must be named in full).")
    return found


def _is_output(path: Path, output: Path) -> bool:
    return path == output or parts_folder(output) in (path, *path.parents)


def _is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _is_single(name: str) -> bool:
    """Whether it is one picture, or a file that is tried as one."""
    several = (*ARCHIVE_SUFFIXES, *VIDEO_SUFFIXES, LIST_SUFFIX, ".parquet")
    return _is_url(name) or (Path(name).is_file() and not name.lower().endswith(several))


def _open(name: str, image_column: str, revision: str | None, frames_per_second: float) -> Source:
    path, suffix = Path(name), name.lower()
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not suffix.endswith(SUFFIXES):
            return HubDataset(name, image_column, revision)
        raise InputError(f"There is nothing at {name}. Expected {EXPECTED}.")
    if suffix.endswith(LIST_SUFFIX):
        return ListFile(path)
    if suffix.endswith(".parquet"):
        return ParquetFile(path, image_column)
    return Video(path, frames_per_second) if suffix.endswith(VIDEO_SUFFIXES) else Archive(path)
