"""`datasets.load_dataset` of a set that somebody else wrote: its tables and archives are checked before they are unpacked,
downloaded or streamed, since a few kB of either may become any amount of memory. The builders of `datasets` have no hook for
that, so some of their methods are replaced.
"""

import io
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, DownloadConfig, Features, IterableDatasetDict, load_dataset_builder
from datasets.builder import Key
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import ArchiveIterable, xopen

from trainer.data import DatasetError
from trainer.data.archives import check_zip, read_tar
from trainer.data.arrow_messages import read_batches, read_schema
from trainer.data.table_limits import (
    MAX_TABLE_BYTES,
    check_columns,
    check_footer,
    check_parquet,
    check_parquet_pages,
    check_row_group,
    read_at,
)


ROWS_AT_ONCE = 100  # of a stream's row group
CHUNK_BYTES = 2**20
MAX_FOOTER_BYTES, END_BYTES = 64 * 2**20, 2**16
PADDING_BYTES = 100  # that Arrow reads behind the columns of some old files
# of members that WebDataset would unpack whole, whatever they become
PACKED_SUFFIXES = (".bz2", ".gz", ".lz4", ".xz", ".zst", ".npz")


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
        _check_archives(builder)
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
    return _open_anywhere(url, DownloadConfig(token=builder.token, storage_options=builder.storage_options))


def _remote_batches(builder: Any, url: str, row_groups: Any) -> Iterator[pa.RecordBatch]:
    """A row group is fetched whole, as Arrow would fetch it, and looked at before it is unpacked."""
    with _open_for(builder, url) as file:
        size = file.seek(0, os.SEEK_END)
        footer = _read_footer(file, size, url)
        metadata = pq.read_metadata(_Parts(size, {size - len(footer): footer}))
        budget = check_footer(url, metadata, size)
        for index in range(metadata.num_row_groups) if row_groups is None else row_groups:
            group = metadata.row_group(index)
            start, stop = _place_of(group)
            content = read_at(file, start, min(stop + PADDING_BYTES, size) - start)
            parts = _Parts(size, {start: content, size - len(footer): footer})
            budget -= check_row_group(url, parts.read_at, group, size, budget)
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


def _check_archives(builder: ImageFolder | WebDataset) -> None:
    """Let the builder look at each archive before it unpacks it, or, of a stream, as it reads it.

    The builder then raises `DatasetError` where an archive or table is damaged, or claims or becomes far more than its bytes.
    """
    changed: Any = builder
    changed._split_generators = partial(_split_generators, builder)
    if isinstance(builder, ImageFolder):
        changed._read_metadata = partial(_read_metadata, builder)


def _split_generators(builder: ImageFolder | WebDataset, manager: Any) -> Any:
    """In place of the builder's own. `manager`: of downloads, or of streams, which unpacks nothing to the disk."""
    extract = manager.extract

    def checked_extract(paths: list[str]) -> Any:
        for path in paths:
            check_zip(Path(path))
        return extract(paths)

    if not manager.is_streaming:
        manager.extract = checked_extract
    manager.iter_archive = lambda url: ArchiveIterable(_members, url, manager.download_config)
    return type(builder)._split_generators(builder, manager)


def _members(url: str, access: DownloadConfig) -> Iterator[tuple[str, io.BytesIO]]:
    """In place of `ArchiveIterable._iter_from_urlpath`: what cannot be used is left out, as there."""
    with _open_anywhere(url, access, block_size=0) as file:
        for member in read_tar(url, file):
            path = PurePosixPath(member.name)
            if path.suffix.lower() in PACKED_SUFFIXES:
                raise DatasetError(
                    f"{url} holds {member.name}, which is compressed in the archive: unpack such files first."
                )
            if member.content is not None and not path.name.startswith((".", "__")):
                yield member.name, io.BytesIO(member.content)


def _read_metadata(builder: ImageFolder, file: str, metadata_ext: str = "") -> Iterable[pa.Table]:
    """In place of the builder's own."""
    access = DownloadConfig(token=builder.token, storage_options=builder.storage_options)
    with _open_anywhere(file, access) as opened:
        content = bytearray()
        while chunk := opened.read(CHUNK_BYTES):  # asked for all at once, some files make room for all
            content += chunk
            if len(content) > MAX_TABLE_BYTES:
                raise DatasetError(f"{file} has more than {MAX_TABLE_BYTES:,} bytes, and no more of a table are read.")
    if metadata_ext == ".csv":
        check_columns(file, bytes(content), ",")
    elif metadata_ext == ".parquet":
        metadata = pq.read_metadata(io.BytesIO(content))
        check_parquet_pages(file, metadata, len(content), partial(read_at, io.BytesIO(content)))
    return type(builder)._read_metadata(builder, file, metadata_ext)


def _open_anywhere(url: str, access: DownloadConfig, **options: Any) -> Any:
    """A file on the disk, or at any address."""
    return open(url, "rb") if os.path.exists(url) else xopen(url, "rb", download_config=access, **options)
