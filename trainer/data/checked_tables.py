"""Load a table that somebody else wrote: its parquet and Arrow files are checked before they are unpacked, downloaded or
streamed, and of the pictures in its rows only the set's own are read.

A few kB of either may become any amount of memory. A row may name any file of this machine, or any address: `datasets` would
read it, with the user's token, and would decode what Pillow decodes, which runs Ghostscript for EPS. So the rows stay
undecoded, and what they name outside the set's own folder is left out.
"""

import io
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import datasets.config
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    DatasetDict,
    DownloadConfig,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    load_dataset_builder,
)
from datasets.builder import Key
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from huggingface_hub.constants import HF_HUB_CACHE

from model.dataset_inputs import file_of_set
from trainer.data import DatasetError
from trainer.data.arrow_messages import read_batches, read_schema
from trainer.data.checked_archives import check_archives, open_anywhere
from trainer.data.table_limits import check_footer, check_parquet, check_row_group, read_at


ROWS_AT_ONCE = 100  # of a stream's row group
ROWS_LOOKED_AT = 1000  # at a time, for which pictures they hold
MAX_FOOTER_BYTES, END_BYTES = 64 * 2**20, 2**16
PADDING_BYTES = 100  # that Arrow reads behind the columns of some old files

Table = TypeVar("Table", DatasetDict, IterableDatasetDict)


def load_checked(
    *names: str | None, cache_dir: str | None, streaming: bool, **options: Any
) -> DatasetDict | IterableDatasetDict:
    """`datasets.load_dataset` for tables that can hold pictures.

    Raises:
        DatasetError: the files are of another kind; or one becomes far more than its bytes (of a stream when it is read).
    """
    builder: Any = load_dataset_builder(*names, cache_dir=cache_dir, **options)
    if isinstance(builder, Parquet):
        builder._generate_tables = partial(_tables, builder)
    elif isinstance(builder, Arrow):
        builder._split_generators = partial(_arrow_splits, builder)
        builder._generate_tables = partial(_arrow_tables, builder)
    elif isinstance(builder, (ImageFolder, WebDataset)):
        check_archives(builder)
    else:
        raise DatasetError(
            f"{names[0]} holds files of the kind {type(builder).__name__}, which holds no pictures: expected parquet, Arrow, "
            "WebDataset or picture files. A set on the Hub may have them in its revision refs/convert/parquet."
        )
    if streaming:
        return builder.as_streaming_dataset()
    builder.download_and_prepare()
    return builder.as_dataset()


def _tables(builder: Any, files: list[str], row_groups_list: list) -> Iterator[tuple[Key, pa.Table]]:
    """In place of `Parquet._generate_tables`."""
    for index, (file, row_groups) in enumerate(zip(files, row_groups_list, strict=True)):
        if os.path.exists(file):
            check_parquet(Path(file), pq.read_metadata(file))
            for number, (_, table) in enumerate(Parquet._generate_tables(builder, [file], [row_groups])):
                yield Key(index, number), table
        else:
            for number, batch in enumerate(_remote_batches(builder, file, row_groups)):
                yield Key(index, number), builder._cast_table(pa.Table.from_batches([batch]))


def _arrow_splits(builder: Any, manager: Any) -> Any:
    """In place of `Arrow._split_generators`, which asks for as many bytes as the first four of a file say."""
    if builder.info.features is None and builder.config.data_files:
        files: Any = next(iter(manager.download(builder.config.data_files).values()))
        file = next(iter(files))
        with _open_for(builder, file) as opened:
            builder.info.features = Features.from_arrow_schema(read_schema(file, opened))
    return Arrow._split_generators(builder, manager)


def _arrow_tables(builder: Any, files: list[str]) -> Iterator[tuple[Key, pa.Table]]:
    """In place of `Arrow._generate_tables`."""
    for index, file in enumerate(files):
        with _open_for(builder, file) as opened:
            for number, batch in enumerate(read_batches(file, opened)):
                yield Key(index, number), builder._cast_table(pa.Table.from_batches([batch]))


def _open_for(builder: Any, url: str) -> Any:
    return open_anywhere(url, DownloadConfig(token=builder.token, storage_options=builder.storage_options))


def _remote_batches(builder: Any, url: str, row_groups: Any) -> Iterator[pa.RecordBatch]:
    """A row group is fetched whole, as Arrow would fetch it, and looked at before it is unpacked."""
    with _open_for(builder, url) as file:
        size = file.seek(0, os.SEEK_END)
        footer = _read_footer(file, size, url)
        metadata = pq.read_metadata(_Parts(size, {size - len(footer): footer}))
        most = check_footer(url, metadata, size)
        for index in range(metadata.num_row_groups) if row_groups is None else row_groups:
            group = metadata.row_group(index)
            start, stop = _place_of(group)
            content = read_at(file, start, min(stop + PADDING_BYTES, size) - start)
            parts = _Parts(size, {start: content, size - len(footer): footer})
            most -= check_row_group(url, parts.read_at, group, size, most)
            yield from pq.ParquetFile(parts, metadata=metadata).iter_batches(
                ROWS_AT_ONCE, row_groups=[index], columns=builder.config.columns
            )


def _read_footer(file: Any, size: int, url: str) -> bytes:
    """The end of the file, of which Arrow always asks for `END_BYTES` first."""
    end = read_at(file, max(0, size - END_BYTES), END_BYTES)
    footer_bytes = int.from_bytes(end[-8:-4], "little") + 8  # of what lies before it
    if footer_bytes > min(size, MAX_FOOTER_BYTES):
        raise DatasetError(f"{url} cannot be read as a parquet file: its footer has {footer_bytes:,} bytes.")
    return end if footer_bytes <= len(end) else read_at(file, size - footer_bytes, footer_bytes)


def _place_of(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Where the columns of a row group begin and end in the file."""
    columns = [group.column(index) for index in range(group.num_columns)]
    starts = [min(one.dictionary_page_offset or one.data_page_offset, one.data_page_offset) for one in columns]
    ends = [start + one.total_compressed_size for start, one in zip(starts, columns, strict=True)]
    return min(starts), max(ends)


class _Parts(io.RawIOBase):
    """Those parts of a file of `size` bytes that are in memory: place -> content."""

    def __init__(self, size: int, parts: dict[int, bytes]):
        self._size, self._parts, self._place = size, parts, 0

    def read_at(self, place: int, length: int) -> bytes:
        """Fewer bytes where the part ends."""
        for start, content in self._parts.items():
            if start <= place < start + len(content):
                return content[place - start : place - start + length]
        return b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        content = self.read_at(self._place, self._size if size < 0 else size)
        self._place += len(content)
        return content


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
