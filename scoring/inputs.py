"""What people type -> sources of pictures."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from itertools import groupby, takewhile
from pathlib import Path

from model.image_loading import SUFFIXES
from scoring.output import parts_folder
from scoring.sources import VIDEO_SUFFIXES, Archive, Entry, Folder, Listed, ListFile, Source, Video
from scoring.tables import HubDataset, ParquetFile
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
    """The sources that `names` stand for, in the order given; patterns like "photos/*.jpg" in sorted order.

    Args:
        image_column: of parquet files and datasets on the Hub. revision: of the latter.
        output: where the results go: no pattern fits it, nor the parts of it that a kill left beside it.

    Raises:
        FileNotFoundError: nothing at a path, or a pattern that fits nothing.
        ValueError: `frames_per_second` is not above 0, or the input is parquet files of which none can be used.
    """
    if not frames_per_second > 0:
        raise ValueError(f"Expected --frames-per-second above 0, got {frames_per_second}.")
    expanded = [name for given in names for name in _expand(given, output)]
    sources: list[Source] = []
    for is_single, run in groupby(expanded, _is_single):
        if is_single:
            sources.append(Listed(tuple(run)))
        else:
            sources += [_open(name, image_column, revision, frames_per_second) for name in run]
    unusable = [table.problem for table in takewhile(_is_unusable_table, sources)]
    if unusable and len(unusable) == len(sources):  # one bad file has a row that says so, nothing else is a mistake
        raise ValueError(unusable[0])
    return sources


def all_entries(sources: Iterable[Source]) -> Iterator[Entry]:
    return (entry for source in sources for entry in source)


def _expand(name: str, output: Path | None) -> list[str]:
    if _is_url(name) or Path(name).exists() or not glob.has_magic(name):
        return [name]
    found = sorted(set(glob.glob(name, recursive=True)))
    if "**" in name:  # which fits the files in the folders too
        found = [path for path in found if not Path(path).is_dir()]
    # a .txt among pictures is rather a README than a list
    found = [path for path in found if not path.lower().endswith(LIST_SUFFIX)]
    if output:
        found = [path for path in found if not _is_ours(Path(os.path.abspath(path)), Path(os.path.abspath(output)))]
    if not found:
        raise FileNotFoundError(f"The pattern {name} fits no file (a {LIST_SUFFIX} of paths must be named in full).")
    return found


def _is_ours(path: Path, output: Path) -> bool:
    return path == output or parts_folder(output) in (path, *path.parents)


def _is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _is_single(name: str) -> bool:
    """Is it one picture, or to be tried as one?"""
    several = (*ARCHIVE_SUFFIXES, *VIDEO_SUFFIXES, LIST_SUFFIX, ".parquet")
    return _is_url(name) or (Path(name).is_file() and not name.lower().endswith(several))


def _is_unusable_table(source: Source) -> bool:
    return isinstance(source, ParquetFile) and source.problem is not None


def _open(name: str, image_column: str, revision: str | None, frames_per_second: float) -> Source:
    path, suffix = Path(name), name.lower()
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not suffix.endswith(SUFFIXES):
            return HubDataset(name, image_column, revision)
        raise FileNotFoundError(f"There is nothing at {name}. Expected {EXPECTED}.")
    if suffix.endswith(LIST_SUFFIX):
        return ListFile(path)
    if suffix.endswith(".parquet"):
        return ParquetFile(path, image_column)
    return Video(path, frames_per_second) if suffix.endswith(VIDEO_SUFFIXES) else Archive(path)
