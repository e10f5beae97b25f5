"""What a table may claim to hold, checked before it is parsed: a few kB can stand for gigabytes."""

import re
from pathlib import Path

import pyarrow.parquet as pq

from trainer.data import DatasetError
from trainer.data.archives import MAX_EXPANSION, SPARE_BYTES
from trainer.data.parquet_pages import ReadAt, expanded_bytes


MAX_COLUMNS = 1000
MAX_TABLE_BYTES = 2**30  # some ten million rows

_LINE, _QUOTED = re.compile(rb"[^\r\n]+"), re.compile(rb'"[^"]*"')


def read_text_table(path: Path) -> bytes:
    """
    Raises:
        DatasetError: the file is larger than `MAX_TABLE_BYTES`.
    """
    size = path.stat().st_size
    if size > MAX_TABLE_BYTES:
        raise DatasetError(f"{path} has {size:,} bytes; at most {MAX_TABLE_BYTES:,} of a table are read.")
    return path.read_bytes()


def check_columns(name: str, content: bytes, separator: str) -> None:
    """Look at every line: pandas needs minutes and gigabytes for one of a million cells, wherever it is.

    Raises:
        DatasetError: the table `name` has a line of more than `MAX_COLUMNS` cells.
    """
    for line in _LINE.finditer(content):
        if line[0].count(separator.encode()) >= MAX_COLUMNS:
            cells = _QUOTED.sub(b"", line[0]).count(separator.encode()) + 1
            if cells > MAX_COLUMNS:
                raise DatasetError(
                    f"{name} has {cells:,} columns; at most {MAX_COLUMNS:,} are read. Is it a table of labels?"
                )


def check_parquet(path: Path, metadata: pq.FileMetaData) -> None:
    """Believe neither a number of rows nor a size that the bytes of the file cannot hold: pictures hardly compress.

    Raises:
        DatasetError: the file claims more, or its pages become more than it claims.
    """
    size = path.stat().st_size
    most = check_footer(str(path), metadata, size)
    with path.open("rb") as file:

        def read_at(place: int, length: int) -> bytes:
            file.seek(place)
            return file.read(length)

        for index in range(metadata.num_row_groups):
            most -= check_row_group(str(path), read_at, metadata.row_group(index), size, most)


def check_footer(name: str, metadata: pq.FileMetaData, size: int) -> int:
    """
    Args:
        name: what messages call the file.
        size: of the file, in bytes.

    Returns:
        The most bytes that its pages may become.

    Raises:
        DatasetError: the footer claims more.
    """
    if metadata.num_rows > size:
        raise DatasetError(f"{name} claims {metadata.num_rows:,} rows in {size:,} bytes: it is damaged.")
    most = size * MAX_EXPANSION + SPARE_BYTES
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    claimed = sum(group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns))
    if claimed > most:
        raise _expands(name, size, claimed)
    return most


def check_row_group(name: str, read_at: ReadAt, group: pq.RowGroupMetaData, size: int, most: int) -> int:
    """The bytes that a row group becomes. Raises `DatasetError` where they are more than `most`."""
    expanded = expanded_bytes(read_at, group, most)
    if expanded > most:
        raise _expands(name, size, expanded)
    return expanded


def _expands(name: str, size: int, expanded: int) -> DatasetError:
    return DatasetError(
        f"{name} expands from {size:,} to {expanded:,} bytes or more, like a decompression bomb. If you trust it, write it "
        "again without compression."
    )
