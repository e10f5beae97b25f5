"""Of the pictures that the rows of a table name, only the set's own are read.

A row may name any file of this machine, or any address: `datasets` would read it, with the user's token, and would decode what
Pillow decodes, which runs Ghostscript for EPS. So the rows stay undecoded, and what they name outside the set's own folder is
left out.
"""

from pathlib import Path
from typing import Any, TypeVar

import datasets.config
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict
from huggingface_hub.constants import HF_HUB_CACHE

from model.dataset_inputs import file_of_set


ROWS_LOOKED_AT = 1000  # at a time, for which pictures they hold

Table = TypeVar("Table", DatasetDict, IterableDatasetDict)


def folders_of_set(name: str, cache_dir: str | None = None) -> tuple[Path, ...]:
    """Where the files of a set may lie: its folder, or what the Hub's client and `datasets` have downloaded of it."""
    path = Path(name).expanduser()
    if path.exists():
        return (path if path.is_dir() else path.parent,)
    downloads = Path(cache_dir, "downloads") if cache_dir else Path(datasets.config.DOWNLOADED_DATASETS_PATH)
    return Path(HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}"), downloads


def with_own_pictures(table: Table, folders: tuple[Path, ...]) -> Table:
    """The splits with every picture as {"bytes", "path"}, undecoded; None where the set itself does not have it."""
    splits = {}
    for split, rows in table.items():
        for column, feature in (rows.features or {}).items():
            if isinstance(feature, Image):
                rows = own_pictures(rows.cast_column(column, Image(decode=False)), column, folders)
        splits[split] = rows
    return type(table)(splits)


def own_pictures(rows: Dataset | IterableDataset, column: str, folders: tuple[Path, ...]) -> Dataset | IterableDataset:
    """The rows, whose pictures are undecoded, with None in place of those that the set itself does not have."""
    if isinstance(rows, Dataset) and not _names_files(rows, column):  # nothing is copied then
        return rows
    return rows.map(_own_row, features=rows.features, fn_kwargs={"column": column, "folders": folders})


def rows_without_picture(rows: Dataset, column: str) -> set[int]:
    """The numbers of the rows whose picture is None or empty. Only its validity is read, not the picture."""
    return {index for index, (no_bytes, no_path) in enumerate(_nothing_in(rows, column)) if no_bytes and no_path}


def _names_files(rows: Dataset, column: str) -> bool:
    return any(no_bytes and not no_path for no_bytes, no_path in _nothing_in(rows, column))


def _nothing_in(rows: Dataset, column: str) -> Any:
    """(no bytes, no path) of each row."""
    for table in rows.select_columns([column]).with_format("arrow").iter(ROWS_LOOKED_AT):
        values = table[column]
        yield from zip(
            *(pc.is_null(pc.struct_field(values, name)).to_pylist() for name in ("bytes", "path")), strict=True
        )


def _own_row(row: dict[str, Any], column: str, folders: tuple[Path, ...]) -> dict[str, Any]:
    picture = row[column]
    if picture and picture["bytes"] is None:
        path = file_of_set(picture["path"], folders) if picture["path"] else None
        picture = {"bytes": None, "path": str(path)} if path else None
    return row | {column: picture}
