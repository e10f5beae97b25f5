"""Read a folder or an archive of picture files as rows, with labels from a metadata table or from the files' names."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset

from model.decoding_limits import MAX_FILE_BYTES
from model.image_formats import FORMATS
from trainer.data import DatasetError
from trainer.data.archives import is_archive, read_archive
from trainer.data.labels import FaceLabels, labels_from_name
from trainer.data.picture_files import as_text, files_in, start_of, why_no_picture
from trainer.data.rows import EXPECTED, FEATURES
from trainer.data.tables import Columns, MetadataTables


SOURCE_VERSION = 4  # part of the cache key: raise it when the same files are read to other rows


def read_files(
    path: Path, columns: Columns, cache_dir: str | None = None, *, streaming: bool = False
) -> Dataset | IterableDataset:
    """A row for every file of a folder or archive: image, file_name, labels and problem.

    Pictures of a folder stay paths, those of an archive become bytes in the cache. The labels come from `metadata.csv`
    if there is one, otherwise from UTKFace file names. `problem` says why a row must be dropped; "" if it can be used.

    Args:
        streaming: read the files anew whenever the rows are iterated over; by default the rows are cached until a file
            changes.

    Raises:
        DatasetError: neither a folder nor an archive, a damaged archive, no picture, no label at all, a `metadata.csv`
            without its columns, or a full disk.
    """
    arguments = _row_arguments(path, columns)
    if streaming:
        return IterableDataset.from_generator(_file_rows, features=FEATURES, gen_kwargs=arguments)
    return Dataset.from_generator(_file_rows, features=FEATURES, cache_dir=cache_dir, gen_kwargs=arguments)


def _row_arguments(path: Path, columns: Columns) -> dict[str, Any]:
    """The arguments of `_file_rows`, which are the cache key: `signature` changes when a file does."""
    if path.is_file() and not is_archive(path):
        raise DatasetError(f"{path} is a single file: expected {EXPECTED}.")
    files = files_in(path) if path.is_dir() else [path]
    stats = ((file, file.stat() if file.exists() else file.lstat()) for file in files)  # of a link, its file's
    lines = [str(SOURCE_VERSION), *(f"{file}|{stat.st_size}|{stat.st_mtime_ns}" for file, stat in stats)]
    signature = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return {"path": str(path), "columns": columns, "signature": signature}


def _file_rows(path: str, columns: Columns, signature: str) -> Iterator[dict[str, Any]]:
    source = Path(path)
    tables = MetadataTables(source, columns)
    read_labels = tables.labels if tables.found else labels_from_name
    others, labelled, unlabelled, other_tables = 0, 0, [], []
    for file_name, image, problem in _entries(source):
        if tables.is_table(file_name):
            continue
        why_not = why_no_picture(file_name, partial(_start_of, image))
        if why_not:
            labels = FaceLabels(problem=why_not)
            others += 1
            other_tables += [file_name] if file_name.lower().endswith((".csv", ".tsv")) else []
        else:
            labels = read_labels(file_name)
            labelled += not labels.problem
            unlabelled += [file_name] if labels.problem else []
        problem = why_not or problem or labels.problem
        row = {"image": None if problem else image, "file_name": as_text(file_name)}
        yield row | asdict(labels) | {"problem": problem}
    for file_name in tables.names_without_file():
        yield {"image": None, "file_name": file_name, **asdict(FaceLabels(problem="no file: only a metadata row"))}
    if not labelled and not unlabelled:
        raise DatasetError(f"{path} does not contain a picture ({', '.join(FORMATS)}), only {others} other files.")
    if not labelled:
        wanted = (
            f"a row in {columns.table}" if tables.found else "a name such as 25_1_2_20170116.jpg (age_gender_race_date)"
        )
        raise DatasetError(
            f"None of the {len(unlabelled)} pictures in {path} has a label: expected {wanted}. "
            f"First: {unlabelled[0]}: {read_labels(unlabelled[0]).problem}."
            + (f" If {other_tables[0]} holds the labels, name it with metadata_file." if other_tables else "")
        )


def _entries(source: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(file name, picture as path or bytes, problem) of every file."""
    if source.is_dir():
        for path in files_in(source):
            if path.is_file():
                size = path.stat().st_size
                too_large = f"too large: {size} bytes, at most {MAX_FILE_BYTES} are read"
                problem = "empty file" if not size else too_large if size > MAX_FILE_BYTES else ""
            else:
                problem = "unreadable: broken link or special file"
            image: dict[str, Any] = {"path": str(path), "bytes": None}
            if as_text(str(path)) != str(path) and not problem:  # a table cannot hold that path
                image = {"path": None, "bytes": path.read_bytes()}
            yield path.relative_to(source).as_posix(), image, problem
    else:
        for member in read_archive(source):
            problem = member.problem or ("" if member.content else "empty file")
            yield member.name, {"path": None, "bytes": member.content}, problem


def _start_of(image: dict[str, Any]) -> bytes:
    return start_of(Path(image["path"])) if image["path"] else image["bytes"] or b""
