"""Read any source of labelled faces as rows: here a dataset on the Hub and the parquet files that scripts.prepare_data wrote;
`trainer.data.file_sources` reads folders and archives.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    LargeList,
    List,
    Sequence,
    Value,
    concatenate_datasets,
)
from datasets.config import HF_DATASETS_CACHE
from datasets.exceptions import DatasetGenerationError, DatasetsError
from huggingface_hub.utils import httpx

from model.errors import AgeGenderError
from trainer.data import DatasetError
from trainer.data.archives import is_archive
from trainer.data.arguments import DataArguments
from trainer.data.checked_loading import load_checked
from trainer.data.file_sources import read_files
from trainer.data.labels import FaceLabels
from trainer.data.own_pictures import folders_of_set, own_pictures, rows_without_picture, with_own_pictures
from trainer.data.rows import EXPECTED, FEATURES, NO_PICTURE, ROW_FEATURES
from trainer.data.splits import SPLITS
from trainer.data.tables import Columns


def open_table(args: DataArguments) -> DatasetDict | IterableDatasetDict | None:
    """The splits of a dataset on the Hub or of a prepared folder; None for a folder or archive of picture files.

    Raises:
        DatasetError: as `load_hub`; or `dataset_splits` for a local path.
    """
    path = Path(args.dataset).expanduser()
    if not path.exists():
        return load_hub(args)
    if args.dataset_splits:
        raise DatasetError(
            f"dataset_splits is for datasets on the Hub, and {args.dataset} is a local path: leave it out."
        )
    files = {split: sorted(map(str, path.glob(f"data/{split}-*.parquet"))) for split in SPLITS}
    if not all(files.values()):
        return None
    return _load_table(args, "parquet", data_files=files)


def load_hub(args: DataArguments) -> DatasetDict | IterableDatasetDict:
    """All splits of a dataset on the Hub, or those that `args.dataset_splits` names.

    Raises:
        DatasetError: no such dataset, configuration, revision or split, no connection, damaged files, or a full disk.
    """
    path = Path(args.dataset)
    if path.is_absolute() or is_archive(path) or args.dataset.startswith((".", "~")):
        raise DatasetError(f"There is no file or folder {args.dataset}: expected {EXPECTED}.")
    splits = _load_table(args, args.dataset, args.dataset_config, revision=args.dataset_revision)
    missing = set(args.dataset_splits or ()) - set(splits)
    if missing:
        raise DatasetError(f"{args.dataset} has no split {', '.join(sorted(missing))}: it has {', '.join(splits)}.")
    return type(splits)({name: splits[name] for name in args.dataset_splits or splits})


def _load_table(args: DataArguments, *names: str | None, **options: Any) -> DatasetDict | IterableDatasetDict:
    """`load_checked`, with undecoded pictures of the set's own, and with errors that say what to do."""
    try:
        with _cache_errors_explained(args):
            table = load_checked(*names, cache_dir=args.cache_dir, streaming=args.streaming, **options)
            return with_own_pictures(table, folders_of_set(args.dataset, args.cache_dir))
    except AgeGenderError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(
            f"{args.dataset!r} is neither a file or folder here nor a dataset on the Hub ({error}). Expected {EXPECTED} "
            "(a private one needs `hf auth login`)."
        ) from error
    except (ConnectionError, httpx.HTTPError) as error:
        raise DatasetError(
            f"The Hub cannot be reached, and {args.dataset!r} is not in the cache ({error}). Try again with a connection, "
            "or give a folder or archive of pictures."
        ) from error
    except (DatasetsError, ValueError) as error:  # ValueError: not the form of a Hub id, or an unknown configuration
        raise DatasetError(f"{args.dataset} cannot be loaded as a dataset: {error.__cause__ or error}") from error


def is_prepared(table: DatasetDict | IterableDatasetDict) -> bool:
    """Whether scripts.prepare_data wrote these splits."""
    columns = {"image", "age", "gender", "race", "file_name", "group"}
    return set(table) == set(SPLITS) and columns <= set(table["train"].column_names or ())


def read_pictures(
    args: DataArguments, table: DatasetDict | IterableDatasetDict | None = None
) -> Dataset | IterableDataset:
    """The source as it is: every file or row with its labels and problems (FEATURES), nothing decoded.

    Args:
        args: names the source.
        table: what `open_table` returned, if it was called already. Its splits are joined, since they may leak.
    """
    table = open_table(args) if table is None else table
    if table is None:
        path = Path(args.dataset).expanduser()
        with _cache_errors_explained(args):
            return read_files(path, args.columns, args.cache_dir, streaming=args.streaming)
    rows = concatenate_datasets(list(table.values()))
    return label_rows(rows, args.columns, args.dataset, folders_of_set(args.dataset, args.cache_dir))


@contextmanager
def _cache_errors_explained(args: DataArguments) -> Iterator[None]:
    """While `datasets` writes rows into its cache, replace its DatasetGenerationError, which does not say what went wrong.

    Raises:
        AgeGenderError: the one that was raised while a row was read.
        DatasetError: the source could not be read, or the cache could not be written.
    """
    try:
        yield
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, AgeGenderError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, OSError):
            raise DatasetError(
                f"{args.dataset} could not be read into the cache at {args.cache_dir or HF_DATASETS_CACHE}: "
                f"{error.__cause__}. Is the disk full? Make room, or name another place with cache_dir."
            ) from error
        raise


def label_rows(
    rows: Dataset | IterableDataset, columns: Columns, where: str, folders: tuple[Path, ...] = ()
) -> Dataset | IterableDataset:
    """The rows of a table of pictures, with the columns of `FEATURES`.

    Args:
        rows: any columns; classes of a `ClassLabel` are read by their names.
        columns: which of them to read.
        where: the name of the table, for error messages.
        folders: where the picture files of the table lie: a row that names another file has no picture.

    Raises:
        DatasetError: a column is missing, or that of pictures holds something else.
    """
    if columns.image not in rows.column_names:
        raise DatasetError(
            f"{where} has no column {columns.image!r}, only {', '.join(rows.column_names)}. "
            "Name the column of pictures with image_column."
        )
    _check_image_feature(rows.features[columns.image], columns.image, where)
    columns.check(rows.column_names, where)
    others = [name for name in rows.column_names if name != columns.image]
    arguments: dict[str, Any] = {
        "columns": columns,
        "class_names": {n: f.names for n, f in rows.features.items() if isinstance(f, ClassLabel)},
    }
    is_checked = isinstance(rows.features[columns.image], Image)  # when it was loaded
    rows = rows.cast_column(columns.image, Image(decode=False))
    if not is_checked:
        rows = own_pictures(rows, columns.image, folders)
    if columns.image != "image":
        rows = rows.rename_column(columns.image, "image")
    if isinstance(rows, IterableDataset):
        return rows.map(_read_row, with_indices=True, features=FEATURES, fn_kwargs=arguments, remove_columns=others)
    # map over the labels alone, so that the pictures are not copied
    labels = rows.select_columns(others).map(
        _read_row,
        with_indices=True,
        features=Features(ROW_FEATURES),
        fn_kwargs=arguments | {"without_picture": rows_without_picture(rows, "image")},
        remove_columns=others,
        desc="Reading labels",
    )
    return concatenate_datasets([rows.select_columns(["image"]), labels], axis=1)


def _check_image_feature(feature: Any, name: str, where: str) -> None:
    """Raise DatasetError where a column does not hold one picture a row: an Image, encoded bytes, or a path."""
    is_struct = isinstance(feature, dict) and {"bytes", "path"} & set(feature)
    is_value = isinstance(feature, Value) and feature.dtype in ("string", "large_string", "binary", "large_binary")
    if isinstance(feature, Image) or is_struct or is_value:
        return
    if isinstance(feature, List | LargeList | Sequence):
        raise DatasetError(
            f"The column {name!r} of {where} holds lists, expected one picture a row. Make a row of each picture first, "
            "with its own labels, or name another column with image_column."
        )
    raise DatasetError(
        f"The column {name!r} of {where} holds {feature}, expected pictures. Name another column with image_column."
    )


def _read_row(
    row: dict[str, Any],
    index: int,
    columns: Columns,
    class_names: dict[str, list[str]],
    without_picture: Collection[int] = (),
) -> dict[str, Any]:
    words = {name: names[row[name]] for name, names in class_names.items() if row[name] is not None and row[name] >= 0}
    unknown = dict.fromkeys(class_names)
    labels = columns.labels(row | unknown | words)
    if index in without_picture or row.get("image", ...) is None:  # of a stream the row has its picture too
        labels = FaceLabels(problem=NO_PICTURE)
    return {"file_name": f"row {index}", **asdict(labels)}
