"""What a table may claim to hold, checked before it is parsed: a few kB can stand for gigabytes.

How many bytes the pages of a parquet file become follows from the pages themselves: its footer may say anything. A page's header
says how much memory its reader allocates. A page may also stand for far more than its own bytes: indices into a dictionary repeat
one long value, and so do values that are written as what they share with the one before.
Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data import DatasetError
from trainer.data.archives import budget_bytes


MAX_COLUMNS = 1000
MAX_TABLE_BYTES = 2**30  # some ten million rows
_LINE, _QUOTED = re.compile(rb"[^\r\n]+"), re.compile(rb'"[^"]*"')

ReadAt = Callable[[int, int], bytes]  # place and length -> bytes, fewer at the end of the file
HEADER_BYTES, MAX_HEADER_BYTES = 4_096, 16 * 2**20  # of a page, with its statistics; Arrow reads no longer one
MAX_DEPTH = 64  # of the structures in a header; Thrift reads no deeper ones
VALUE_BYTES = 8  # of a number in memory
DICTIONARY_PAGE = 2
SHARED_PREFIX, *DICTIONARY_ENCODINGS = 7, 2, 8  # DELTA_BYTE_ARRAY; PLAIN_DICTIONARY and RLE_DICTIONARY
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(14)


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
    with path.open("rb") as file:
        check_parquet_pages(str(path), metadata, path.stat().st_size, partial(read_at, file))


def check_parquet_pages(name: str, metadata: pq.FileMetaData, size: int, read: ReadAt) -> None:
    """As `check_parquet`, for a file of `size` bytes wherever it lies."""
    budget = check_footer(name, metadata, size)
    for index in range(metadata.num_row_groups):
        budget -= check_row_group(name, read, metadata.row_group(index), size, budget)


def read_at(file: Any, place: int, length: int) -> bytes:
    """Some bytes of an open file, fewer where it ends."""
    file.seek(place)
    return file.read(length)


def check_footer(name: str, metadata: pq.FileMetaData, size: int) -> int:
    """
    Args:
        name: what messages call the file.
        size: of the file, in bytes.

    Returns:
        The bytes that its pages may become at most.

    Raises:
        DatasetError: the footer claims more.
    """
    check_claimed_rows(name, metadata.num_rows, size)
    budget = budget_bytes(size)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    claimed = sum(group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns))
    if claimed > budget:
        raise expands(name, size, claimed)
    return budget


def check_row_group(name: str, read: ReadAt, group: pq.RowGroupMetaData, size: int, budget: int) -> int:
    """The bytes that a row group becomes. Raises `DatasetError` where they are more than `most`."""
    expanded = expanded_bytes(read, group, budget)
    if expanded > budget:
        raise expands(name, size, expanded)
    return expanded


def check_claimed_rows(name: str, rows: int, size: int) -> None:
    """Raises `DatasetError` where a file of `size` bytes claims more rows than that."""
    if rows > size:
        raise DatasetError(f"{name} claims {rows:,} rows in {size:,} bytes: it is damaged.")


def expands(name: str, size: int, expanded: int) -> DatasetError:
    return DatasetError(
        f"{name} expands from {size:,} to {expanded:,} bytes or more, like a decompression bomb. If you trust it, write it "
        "again without compression."
    )


class _DamagedPageError(ValueError):
    """Arrow cannot read this page either, nor those behind it."""


def expanded_bytes(read_at: ReadAt, group: pq.RowGroupMetaData, budget: int) -> int:
    """Bytes that a row group needs in memory; counting ends where they are more than `most`, and a column at a damaged page."""
    total = 0
    for index in range(group.num_columns):
        with suppress(_DamagedPageError):
            for size in _column_bytes(read_at, group.column(index), budget):
                total += size
                if total > budget:
                    return total
    return total


def _column_bytes(read_at: ReadAt, column: pq.ColumnChunkMetaData, budget: int) -> Iterator[int]:
    """Bytes of each page."""
    place = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        place = min(place, column.dictionary_page_offset)
    end, longest = place + column.total_compressed_size, 0
    while place < end:
        header, start = _read_header(read_at, place)
        unpacked, packed = _number_in(header, 2), _number_in(header, 3)
        data, data_2, dictionary = (_struct_in(header, number) for number in (5, 8, 7))
        values = max(_number_in(data, 1, 0), _number_in(data_2, 1, 0))
        encoding = _number_in(data, 2, _number_in(data_2, 4, 0))
        # before anything of this size is allocated
        yield unpacked + VALUE_BYTES * (values + _number_in(dictionary, 1, 0))
        if column.physical_type == "BYTE_ARRAY":
            if _number_in(header, 1) == DICTIONARY_PAGE:
                longest = max(
                    longest, _longest_value(read_at(start, packed), column.compression, min(unpacked, budget))
                )
            elif encoding in DICTIONARY_ENCODINGS:
                yield values * longest
            elif encoding == SHARED_PREFIX:
                yield values * unpacked
        place = start + packed


def _number_in(fields: dict[int, Any], number: int, default: int | None = None) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int) or value < 0:
        raise _DamagedPageError
    return value


def _struct_in(fields: dict[int, Any], number: int) -> dict[int, Any]:
    value = fields.get(number)
    return value if isinstance(value, dict) else {}


def _longest_value(content: bytes, compression: str, size: int) -> int:
    """Of a dictionary page: a length in four bytes before each value."""
    name = {"UNCOMPRESSED": None, "LZ4": "lz4_raw"}.get(compression, compression.lower())
    try:
        plain = content if name is None else pa.Codec(name).decompress(content, size, asbytes=True)
    except (pa.ArrowException, ValueError, OSError):  # another program's codec: no value is longer than all
        return size
    longest = place = 0
    while place + 4 <= len(plain):
        length = int.from_bytes(plain[place : place + 4], "little")
        longest, place = max(longest, length), place + 4 + length
    return min(longest, size)


def _read_header(read_at: ReadAt, place: int) -> tuple[dict[int, Any], int]:
    """The fields of a page's header by their numbers, and where it ends."""
    size = HEADER_BYTES
    while True:
        content = read_at(place, size)
        try:
            fields, length = _read_struct(content, 0, 0)
            return fields, place + length
        except IndexError:
            if len(content) < size or size >= MAX_HEADER_BYTES:
                raise _DamagedPageError from None
            size *= 8


def _read_struct(content: bytes, place: int, depth: int) -> tuple[dict[int, Any], int]:
    """Thrift's compact protocol; `IndexError` where the bytes end before it does.

    https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    if depth > MAX_DEPTH:
        raise _DamagedPageError
    fields: dict[int, Any] = {}
    number = 0
    while content[place] != STOP:
        step, kind = content[place] >> 4, content[place] & 15
        place += 1
        if not step:
            step, place = _read_number(content, place)
            number = 0
        number += step
        fields[number], place = _read_value(content, place, kind, depth)
    return fields, place + 1


def _read_value(content: bytes, place: int, kind: int, depth: int) -> tuple[Any, int]:
    """None for what no header needs."""
    if kind in (TRUE, FALSE):
        return None, place
    if kind == BYTE:
        return None, place + 1
    if kind in (I16, I32, I64):
        return _read_number(content, place, kind)
    if kind in (DOUBLE, BINARY, UUID):
        length, place = ({DOUBLE: 8, UUID: 16}[kind], place) if kind != BINARY else _read_varint(content, place)
        if place + length > len(content):
            raise IndexError
        return None, place + length
    if kind == STRUCT:
        return _read_struct(content, place, depth + 1)
    if kind in (LIST, SET, MAP):
        return None, _skip_collection(content, place, kind, depth + 1)
    raise _DamagedPageError


def _skip_collection(content: bytes, place: int, kind: int, depth: int) -> int:
    if kind == MAP:
        count, place = _read_varint(content, place)
        kinds = [content[place] >> 4, content[place] & 15] if count else []
        place += bool(count)
    else:
        count, kinds, place = content[place] >> 4, [content[place] & 15], place + 1
        if count == 15:
            count, place = _read_varint(content, place)
    for _ in range(count):
        for one in kinds:
            _, place = (None, place + 1) if one in (TRUE, FALSE) else _read_value(content, place, one, depth)
            if place > len(content) or depth > MAX_DEPTH:
                raise IndexError
    return place


def _read_number(content: bytes, place: int, kind: int = I64) -> tuple[int, int]:
    """A signed one, in zigzag. As Thrift does, it leaves out the bits that are too many."""
    value, place = _read_varint(content, place)
    value &= (1 << {I16: 16, I32: 32, I64: 64}[kind]) - 1
    return (value >> 1) ^ -(value & 1), place


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
        if shift > 63:
            raise _DamagedPageError
