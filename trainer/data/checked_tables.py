"""Load a table with `datasets`, and look at its parquet files before Arrow makes memory of them: downloaded or streamed.

Whoever wrote a dataset on the Hub may have written into it what a few kB become, and what they are said to become.
"""

import io
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, DownloadConfig, IterableDatasetDict, load_dataset_builder
from datasets.builder import Key
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import xopen

from trainer.data import DatasetError
from trainer.data.table_limits import check_footer, check_parquet, check_row_group


ROWS_AT_ONCE = 100
MAX_FOOTER_BYTES, END_BYTES = 64 * 2**20, 2**16
PADDING_BYTES = 100  # that Arrow reads behind the columns of some old files


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
    elif not isinstance(builder, (Arrow, ImageFolder, WebDataset)):
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


def _remote_batches(builder: Any, url: str, row_groups: Any) -> Iterator[pa.RecordBatch]:
    """A row group is fetched whole, as Arrow would fetch it, and looked at before it is unpacked."""
    access = DownloadConfig(token=builder.token, storage_options=builder.storage_options)
    with xopen(url, "rb", download_config=access) as file:
        size = file.seek(0, os.SEEK_END)
        footer = _read_footer(file, size, url)
        metadata = pq.read_metadata(_Parts(size, {size - len(footer): footer}))
        most = check_footer(url, metadata, size)
        for index in range(metadata.num_row_groups) if row_groups is None else row_groups:
            group = metadata.row_group(index)
            start, stop = _place_of(group)
            content = _read(file, start, min(stop + PADDING_BYTES, size) - start)
            parts = _Parts(size, {start: content, size - len(footer): footer})
            most -= check_row_group(url, parts.read_at, group, size, most)
            yield from pq.ParquetFile(parts, metadata=metadata).iter_batches(
                ROWS_AT_ONCE, row_groups=[index], columns=builder.config.columns
            )


def _read_footer(file: Any, size: int, url: str) -> bytes:
    """The end of the file, of which Arrow always asks for `END_BYTES` first."""
    end = _read(file, max(0, size - END_BYTES), END_BYTES)
    footer_bytes = int.from_bytes(end[-8:-4], "little") + 8  # of what lies before it
    if footer_bytes > min(size, MAX_FOOTER_BYTES):
        raise DatasetError(f"{url} cannot be read as a parquet file: its footer has {footer_bytes:,} bytes.")
    return end if footer_bytes <= len(end) else _read(file, size - footer_bytes, footer_bytes)


def _read(file: Any, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


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
