"""Labelled faces from a folder, an archive or the Hub: rows of an undecoded picture, its labels, and what is wrong."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Value,
    concatenate_datasets,
    load_dataset,
)
from datasets.config import HF_DATASETS_CACHE
from datasets.exceptions import DatasetGenerationError

from model.image_loading import SUFFIXES, PictureError, load_rgb
from trainer.data.archives import is_archive, read_archive
from trainer.data.arguments import DataArguments
from trainer.data.labels import FaceLabels, labels_from_name
from trainer.data.tables import METADATA_NAME, Columns, MetadataTables


SOURCE_VERSION = 2  # part of the cache key: raise it when the same files are read to other rows

LABEL_FEATURES = {
    "age": Value("int32"),
    "age_low": Value("int32"),
    "age_high": Value("int32"),
    "gender": Value("int8"),
    "race": Value("string"),
}
_ROW_FEATURES = {"file_name": Value("string"), **LABEL_FEATURES, "problem": Value("string")}


def read_files(path: Path, columns: Columns, cache_dir: str | None = None) -> Dataset:
    """A row for every file of a folder or archive: image, file_name, labels and problem, cached until a file changes.

    Pictures of a folder stay paths, those of an archive become bytes in the cache. The labels come from `metadata.csv`
    where there is one, else from UTKFace file names. `problem` is why a row must be dropped, "" if it need not be.

    Raises:
        ValueError: no folder or archive, a damaged archive, no picture, no label at all, a table without its columns; a
            full disk.
    """
    check_files(path)
    with caching_explained(str(path), cache_dir):
        return Dataset.from_generator(
            file_rows,
            features=Features({"image": Image(decode=False), **_ROW_FEATURES}),
            cache_dir=cache_dir,
            gen_kwargs={"path": str(path), "columns": columns, "signature": _signature(path)},
        )


@contextmanager
def caching_explained(source: str, cache_dir: str | None) -> Iterator[None]:
    """While `datasets` writes the rows of `source` into its cache, whose own error says nothing.

    Raises:
        ValueError: something is wrong with the source, or it could not be read or written.
    """
    try:
        yield
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, OSError):
            raise ValueError(
                f"{source} could not be read into the cache at {cache_dir or HF_DATASETS_CACHE}: {error.__cause__}. Is the "
                "disk full? Make room, or name another place with cache_dir."
            ) from error
        raise


def stream_files(path: Path, columns: Columns) -> IterableDataset:
    """The rows of `read_files`, one after the other."""
    check_files(path)
    return IterableDataset.from_generator(
        file_rows,
        features=Features({"image": Image(decode=False), **_ROW_FEATURES}),
        gen_kwargs={"path": str(path), "columns": columns, "signature": _signature(path)},
    )


def check_files(path: Path) -> None:
    if path.is_file() and not is_archive(path):
        raise ValueError(f"{path} is a single file: expected a folder, a .tar.gz, .tgz, .tar or .zip, or a Hub id.")


def load_hub(args: DataArguments) -> DatasetDict | IterableDatasetDict:
    """`datasets.load_dataset`, of `args.dataset_splits` if given, with errors that say what to do."""
    try:
        with caching_explained(args.dataset, args.cache_dir):
            splits = load_dataset(
                args.dataset,
                args.dataset_config,
                revision=args.dataset_revision,
                cache_dir=args.cache_dir,
                streaming=args.streaming,
            )
    except FileNotFoundError as error:
        raise ValueError(
            f"{args.dataset!r} is neither a file or folder here nor a dataset on the Hub ({error}). Expected a folder or a "
            ".tar.gz, .tgz, .tar or .zip of pictures, or a Hub id such as nu-delta/utkface (a private one needs "
            "`hf auth login`)."
        ) from error
    except ConnectionError as error:
        raise ValueError(
            f"The Hub cannot be reached, and {args.dataset!r} is not in the cache ({error}). Try again with a connection, "
            "or give a folder or archive of pictures."
        ) from error
    missing = set(args.dataset_splits or ()) - set(splits)
    if missing:
        raise ValueError(f"{args.dataset} has no split {', '.join(sorted(missing))}: it has {', '.join(splits)}.")
    return type(splits)({name: splits[name] for name in args.dataset_splits or splits})


def as_text(name: str) -> str:
    """A file name with \\xff and the like for bytes that are not UTF-8, which a table cannot hold."""
    return name.encode(errors="backslashreplace").decode()


def label_rows(rows: Dataset | IterableDataset, columns: Columns, where: str) -> Dataset | IterableDataset:
    """Rows of any table of pictures, in the shape of `read_files`.

    Raises:
        ValueError: a column is missing.
    """
    if columns.image not in rows.column_names:
        raise ValueError(
            f"{where} has no column {columns.image!r}, only {', '.join(rows.column_names)}. "
            "Name the column of pictures with image_column."
        )
    columns.check(rows.column_names, where)
    others = [name for name in rows.column_names if name != columns.image]
    options = {
        "with_indices": True,
        "fn_kwargs": {
            "columns": columns,
            "class_names": {n: f.names for n, f in rows.features.items() if isinstance(f, ClassLabel)},
        },
        "remove_columns": others,
    }
    rows = rows.cast_column(columns.image, Image(decode=False))
    if columns.image != "image":
        rows = rows.rename_column(columns.image, "image")
    if isinstance(rows, IterableDataset):
        return rows.map(_read_row, features=Features({"image": Image(decode=False), **_ROW_FEATURES}), **options)
    # labels apart from the pictures, so that mapping them does not copy the pictures
    labels = rows.select_columns(others).map(
        _read_row, features=Features(_ROW_FEATURES), desc="Reading labels", **options
    )
    return concatenate_datasets([rows.select_columns(["image"]), labels], axis=1)


def _read_row(row: dict, index: int, columns: Columns, class_names: dict[str, list[str]]) -> dict:
    words = {name: names[row[name]] for name, names in class_names.items() if row[name] is not None and row[name] >= 0}
    unknown = dict.fromkeys(class_names)
    return {"file_name": f"row {index}", **asdict(columns.labels(row | unknown | words))}


def _signature(path: Path) -> str:
    """Changes when a file is added, removed, resized or rewritten."""
    stats = ((file, file.lstat()) for file in (_files(path) if path.is_dir() else [path]))
    lines = [str(SOURCE_VERSION), *(f"{file}|{stat.st_size}|{stat.st_mtime_ns}" for file, stat in stats)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _entries(source: Path) -> Iterator[tuple[str, dict, str]]:
    """(file name, picture as path or bytes, problem) of every file."""
    if source.is_dir():
        for path in _files(source):
            if path.is_file():
                problem = "" if path.stat().st_size else "empty file"
            else:
                problem = "unreadable: broken link or special file"
            if as_text(str(path)) == str(path) or problem:
                image = {"path": str(path), "bytes": None}
            else:  # a table cannot hold that path
                image = {"path": None, "bytes": path.read_bytes()}
            yield path.relative_to(source).as_posix(), image, problem
    else:
        for member in read_archive(source):
            problem = member.problem or ("" if member.content else "empty file")
            yield member.name, {"path": None, "bytes": member.content}, problem


def file_rows(path: str, columns: Columns, signature: str) -> Iterator[dict]:
    """The rows of `read_files`. `signature` only tells `datasets` when its cache is out of date."""
    source = Path(path)
    tables = MetadataTables(source, columns)
    read_labels = tables.labels if tables.found else labels_from_name
    others, labelled, unlabelled = 0, 0, []
    for file_name, image, problem in _entries(source):
        name = PurePosixPath(file_name)
        if name.name == METADATA_NAME:
            continue
        if name.suffix.lower() in SUFFIXES:
            labels = read_labels(file_name)
            labelled += not labels.problem
            unlabelled += [file_name] if labels.problem else []
        else:
            labels = FaceLabels(problem="not a picture")
            others += 1
        problem = problem or labels.problem
        row = {"image": None if problem else image, "file_name": as_text(file_name)}
        yield row | asdict(labels) | {"problem": problem}
    for file_name in tables.names_without_file():
        yield {"image": None, "file_name": file_name, **asdict(FaceLabels(problem="no file: only a metadata row"))}
    if not labelled and not unlabelled:
        raise ValueError(f"{path} does not contain a picture ({' '.join(SUFFIXES)}), only {others} other files.")
    if not labelled:
        wanted = (
            f"a row in {METADATA_NAME}" if tables.found else "a name such as 25_1_2_20170116.jpg (age_gender_race_date)"
        )
        raise ValueError(
            f"None of the {len(unlabelled)} pictures in {path} has a label: expected {wanted}. "
            f"First: {unlabelled[0]}: {read_labels(unlabelled[0]).problem}."
        )


def load_row_picture(row: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of `image`, upright.

    Raises:
        PictureError: it cannot be used, as in a set prepared elsewhere; begins with the row's `file_name`.
    """
    try:
        return load_rgb(row["image"])
    except PictureError as error:
        raise PictureError(f"{row['file_name']}: {error}") from error
