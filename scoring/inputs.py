"""From what a user names, such as a folder, a pattern or a dataset, to sources of pictures and what is known of them."""

import glob
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from pyarrow.fs import FileType

from model.image_formats import SUFFIXES, starts_as_video
from scoring.output import parts_folder
from scoring.sources import Archive, Entry, Folder, InputError, Listed, ListFile, RemoteFolder, Source
from scoring.storage import Place, is_remote, version_in
from scoring.tables import ParquetFile, RemoteParquet
from scoring.video import VIDEO_SUFFIXES, Video
from trainer.data.archives import ARCHIVE_SUFFIXES
from trainer.data.picture_files import HIDDEN, is_hidden, start_of


LIST_SUFFIX = ".txt"
EXPECTED = (
    "a picture, an http(s) URL, a folder, a quoted pattern, a .tar, .tar.gz, .tgz or .zip, a .txt with a path a line, "
    "a .parquet, a video, the id of a dataset on the Hub, or the address of a folder, picture, .parquet or pattern in a "
    "store (s3://, gs://, hf://)"
)


def open_sources(
    names: Iterable[str],
    *,
    image_column: str = "image",
    revision: str | None = None,
    frames_per_second: float = 1.0,
    output: str | Path | None = None,
) -> list[Source]:
    """Open what `names` stand for, in the order given; the files that match a pattern are sorted.

    Args:
        names: see `EXPECTED`.
        image_column: column of pictures in parquet files and datasets on the Hub.
        revision: branch, tag or commit of a dataset on the Hub.
        frames_per_second: how many frames of each second of a video are taken.
        output: file or folder of the results, which no pattern matches, nor the unfinished parts beside it.

    Raises:
        InputError: there is nothing at a path, a pattern matches nothing, `frames_per_second` is not above 0, or the input
            is only parquet files of which none can be read.
        StorageError: a store cannot be read.
    """
    if not frames_per_second > 0:
        raise InputError(f"Expected --frames-per-second above 0, got {frames_per_second}.")
    expanded: list[str] = []
    hidden: list[str] = []
    versions: dict[str, str] = {}
    for name in names:
        if _is_pattern(name):
            visible, hidden_of_pattern, versions_of_pattern = _expand(name, output)
            expanded, hidden = expanded + visible, hidden + hidden_of_pattern
            versions |= versions_of_pattern
        else:
            expanded.append(name)
            if is_remote(name):
                versions[name] = version_in(Place(name).info())
    sources: list[Source] = []
    for is_single, run in groupby(expanded, _is_single):
        if is_single:
            sources.append(Listed(tuple(run), versions=versions))
        else:
            sources += [_open(name, image_column, revision, frames_per_second, output) for name in run]
    problems = [source.problem if isinstance(source, ParquetFile) else None for source in sources]
    if problems and all(problems):  # one bad file among others has a row that says so; all bad is a mistake
        raise InputError(problems[0])
    return sources + ([Listed((), tuple(hidden))] if hidden else [])


def all_entries(sources: Iterable[Source]) -> Iterator[Entry]:
    """The pictures of all sources, in order."""
    return (entry for source in sources for entry in source)


@dataclass(frozen=True)
class InputSummary:
    """How many pictures there are (of videos an estimate), a hash that changes when they do, and what was skipped.

    skipped: {kind: number of files}, see `Source.skipped`.
    """

    pictures: int
    signature: str
    skipped: Counter[str]

    @classmethod
    def of(cls, sources: Sequence[Source]) -> "InputSummary":
        """
        Raises:
            InputError: there is no picture.
        """
        counts = [source.count() for source in sources]
        skipped = sum((source.skipped() for source in sources), Counter[str]())
        if not sum(counts):
            raise no_pictures(skipped)
        signatures = "\n".join(f"{count} {source.signature()}" for count, source in zip(counts, sources, strict=True))
        return cls(sum(counts), hashlib.sha256(signatures.encode(errors="surrogateescape")).hexdigest(), skipped)


def describe_skipped(skipped: Counter[str]) -> str:
    """A sentence or two on the files that were not scored; "" where there are none."""
    if not skipped:
        return ""
    kinds = ", ".join(
        f"{count:,} {kind}{'s' * (kind == HIDDEN and count > 1)}" for kind, count in skipped.most_common()
    )
    if skipped.keys() & {*ARCHIVE_SUFFIXES, *VIDEO_SUFFIXES, ".parquet", ".gz"}:
        kinds += ". To score archives, videos and parquet files, name each as an input"
    return f"Skipped in folders and archives: {kinds}."


def report_skipped(skipped: Counter[str]) -> None:
    """Print `describe_skipped`, if there is something to say, beside the results rather than among them."""
    if skipped:
        print(describe_skipped(skipped), file=sys.stderr)


def no_pictures(skipped: Counter[str]) -> InputError:
    return InputError(f"Expected pictures in the input, found none. {describe_skipped(skipped)}".rstrip())


def _is_pattern(name: str) -> bool:
    if not glob.has_magic(name) or _is_url(name):
        return False
    return is_remote(name) or not Path(name).exists()


def _expand(pattern: str, output: str | Path | None) -> tuple[list[str], list[str], dict[str, str]]:
    """The visible files that match, sorted; the hidden ones; and {address: version} of those in a store."""
    versions = Place(pattern).match() if is_remote(pattern) else {}
    found = list(versions) if is_remote(pattern) else sorted(set(glob.glob(pattern, recursive=True)))
    if "**" in pattern:  # it matches the folders' files too
        found = [path for path in found if path in versions or not Path(path).is_dir()]
    # a .txt among pictures is more likely a README than a list
    found = [path for path in found if not path.lower().endswith(LIST_SUFFIX) and not _is_output(output, path)]
    if not found:
        raise InputError(f"The pattern {pattern} matches no file (a {LIST_SUFFIX} of paths must be named in full).")
    before = re.split(r"[*?\[]", pattern, maxsplit=1)[0]  # a dot that the user typed hides nothing
    start = "" if before.endswith(("/", os.sep)) or not before else "name"
    hidden = {path for path in found if is_hidden(start + path[len(before) :])}
    return [path for path in found if path not in hidden], sorted(hidden), versions


def _is_output(output: str | Path | None, path: str | Path) -> bool:
    if output is None:
        return False
    if is_remote(str(output)) or is_remote(str(path)):
        return f"{path}/".startswith(f"{str(output).rstrip('/')}/")
    path, output = Path(os.path.abspath(path)), Path(os.path.abspath(output))
    return not {output, parts_folder(output)}.isdisjoint((path, *path.parents))


def _is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _is_single(name: str) -> bool:
    """Whether it is one picture, or a file that is tried as one."""
    several = (*ARCHIVE_SUFFIXES, LIST_SUFFIX, ".parquet")
    if is_remote(name):
        return name.lower().endswith(SUFFIXES)
    return _is_url(name) or (Path(name).is_file() and not name.lower().endswith(several) and not _is_video(name))


def _is_video(name: str) -> bool:
    """By its name, or by its content where that is no picture's."""
    if name.lower().endswith((*VIDEO_SUFFIXES, *SUFFIXES)):
        return name.lower().endswith(VIDEO_SUFFIXES)
    return starts_as_video(start_of(Path(name)))


def _open(
    name: str, image_column: str, revision: str | None, frames_per_second: float, output: str | Path | None
) -> Source:
    path, suffix = Path(name), name.lower()
    if is_remote(name):
        return _open_remote(Place(name.rstrip("/")), image_column)
    if path.is_dir():
        return Folder(path, partial(_is_output, output))
    if not path.exists():
        if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not suffix.endswith(SUFFIXES):
            from scoring.hub_dataset import HubDataset  # imports `datasets`

            return HubDataset(name, image_column, revision)
        raise InputError(f"There is nothing at {name}. Expected {EXPECTED}.")
    if suffix.endswith(LIST_SUFFIX):
        return ListFile(path)
    if suffix.endswith(".parquet"):
        return ParquetFile(path, image_column)
    return Archive(path) if suffix.endswith(ARCHIVE_SUFFIXES) else Video(path, frames_per_second)


def _open_remote(place: Place, image_column: str) -> Source:
    kind = place.info().type
    if kind == FileType.Directory:
        return RemoteFolder(place)
    if kind == FileType.File and place.address.lower().endswith(".parquet"):
        return RemoteParquet(place.address, image_column)
    what = "nothing" if kind == FileType.NotFound else "another kind of file"
    raise InputError(
        f"Expected a folder, pictures or .parquet files at {place.address}, found {what}. Copy archives, lists and videos to "
        "a disk first."
    )
