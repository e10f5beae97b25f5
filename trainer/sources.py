"""Labelled faces from a folder, an archive or the Hub, as one `datasets.Dataset` of undecoded pictures and read labels."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from datasets import ClassLabel, Dataset, Features, Image, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError

from trainer.archives import read_archive
from trainer.labels import FaceLabels, labels_from_name
from trainer.tables import METADATA_NAME, Columns, MetadataTables


PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SOURCE_VERSION = 1  # part of the cache key: raise it when the same files are read to other rows

_LABEL_FEATURES = {
    "file_name": Value("string"),
    "age": Value("int32"),
    "age_low": Value("int32"),
    "age_high": Value("int32"),
    "gender": Value("int8"),
    "race": Value("string"),
    "problem": Value("string"),  # why the row must be dropped, "" if it need not be
}


def read_files(path: Path, columns: Columns, cache_dir: str | None = None) -> Dataset:
    """Every file of a folder or archive as a row (image undecoded, file_name, labels, problem), cached until a file changes.

    Pictures of a folder stay paths, those of an archive are bytes in the cache. Labels come from `metadata.csv` where there
    is one, else from UTKFace file names.

    Raises:
        ValueError: damaged archive, no picture, no label at all, a table without the columns needed.
    """
    try:
        return Dataset.from_generator(
            _labelled_rows,
            features=Features({"image": Image(decode=False), **_LABEL_FEATURES}),
            cache_dir=cache_dir,
            gen_kwargs={"path": str(path), "columns": columns, "signature": _signature(path)},
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def read_hub(dataset: str, revision: str | None, columns: Columns, cache_dir: str | None = None) -> Dataset:
    """All rows of all splits of a Hub dataset, in the same shape as `read_files`. Its own splits may leak and are not used.

    Raises:
        ValueError: no such dataset, no network and nothing cached, or a column missing.
    """
    splits = load_hub(dataset, revision, cache_dir)
    rows = concatenate_datasets(list(splits.values()))
    if columns.image not in rows.column_names:
        raise ValueError(
            f"{dataset} has no column {columns.image!r}, only {', '.join(rows.column_names)}. "
            "Name the column of pictures with image_column."
        )
    columns.check(rows.column_names, dataset)
    images = rows.select_columns([columns.image]).cast_column(columns.image, Image(decode=False))
    if columns.image != "image":
        images = images.rename_column(columns.image, "image")
    tables = rows.remove_columns([columns.image])
    labels = tables.map(
        _table_labels,
        with_indices=True,
        fn_kwargs={
            "columns": columns,
            "class_names": {name: f.names for name, f in tables.features.items() if isinstance(f, ClassLabel)},
        },
        remove_columns=tables.column_names,
        features=Features(_LABEL_FEATURES),
        desc="Reading labels",
    )
    return concatenate_datasets([images, labels], axis=1)


def load_hub(dataset: str, revision: str | None, cache_dir: str | None = None, streaming: bool = False):
    """`datasets.load_dataset`, with errors that say what to do."""
    try:
        return load_dataset(dataset, revision=revision, cache_dir=cache_dir, streaming=streaming)
    except FileNotFoundError as error:
        raise ValueError(
            f"{dataset!r} is neither a file or folder here nor a dataset on the Hub ({error}). Expected a folder or a "
            ".tar.gz, .tgz or .zip of pictures, or a Hub id such as nu-delta/utkface; a private one needs `hf auth login`."
        ) from error
    except ConnectionError as error:
        raise ValueError(
            f"The Hub cannot be reached, and {dataset!r} is not in the cache ({error}). "
            "Try again with a connection, or give a folder or archive of pictures."
        ) from error


def _table_labels(row: dict, index: int, columns: Columns, class_names: dict[str, list[str]]) -> dict:
    for name, names in class_names.items():
        row[name] = names[row[name]] if row[name] is not None and row[name] >= 0 else None
    return {"file_name": f"row {index}", **asdict(columns.labels(row))}


def _signature(path: Path) -> str:
    """Changes when a file is added, removed, resized or rewritten."""
    stats = ((file, file.lstat()) for file in (_files(path) if path.is_dir() else [path]))
    lines = [str(SOURCE_VERSION), *(f"{file}|{stat.st_size}|{stat.st_mtime_ns}" for file, stat in stats)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _entries(source: Path) -> Iterator[tuple[str, dict, str]]:
    """(file name, picture as path or bytes, problem) of every file."""
    if source.is_dir():
        for path in _files(source):
            if not path.is_file():
                problem = "unreadable: broken link or special file"
            else:
                problem = "" if path.stat().st_size else "empty file"
            yield path.relative_to(source).as_posix(), {"path": str(path), "bytes": None}, problem
    else:
        for member in read_archive(source):
            problem = member.problem or ("" if member.content else "empty file")
            yield member.name, {"path": member.name, "bytes": member.content}, problem


def _labelled_rows(path: str, columns: Columns, signature: str) -> Iterator[dict]:
    source = Path(path)
    tables = MetadataTables(source, columns)
    others, unlabelled, labelled = 0, [], 0
    for file_name, image, problem in _entries(source):
        name = PurePosixPath(file_name)
        if name.name == METADATA_NAME:
            continue
        labels = FaceLabels(problem="not a picture")
        if name.suffix.lower() in PICTURE_SUFFIXES:
            labels = tables.labels(file_name) if tables.found else labels_from_name(file_name)
            labelled += not labels.problem
            unlabelled += [file_name] if labels.problem else []
        else:
            others += 1
        row = {"image": None if problem else image, "file_name": file_name, **asdict(labels)}
        yield row | {"problem": problem or labels.problem}
    for file_name in tables.names_without_file():
        yield {"image": None, "file_name": file_name, **asdict(FaceLabels(problem="no file: only a metadata row"))}
    if not labelled and not unlabelled:
        raise ValueError(f"{path} holds no picture ({' '.join(PICTURE_SUFFIXES)}), only {others} other files.")
    if not labelled:
        wanted = (
            f"a row in {METADATA_NAME}"
            if tables.found
            else "a name such as 25_1_2_20170116.jpg (age, gender, race, date)"
        )
        raise ValueError(
            f"None of the {len(unlabelled)} pictures in {path} has a label: expected {wanted}. "
            f"{unlabelled[0]}: {(tables.labels(unlabelled[0]) if tables.found else labels_from_name(unlabelled[0])).problem}."
        )
