"""What the messages of an Arrow file become in memory, looked at before Arrow makes room for it.

A compressed body says before each of its buffers how many bytes that one becomes, and Arrow allocates as many. Where the
buffers lie in the body is in the message's metadata, a flatbuffer, which pyarrow reads only together with the body.
Format: https://github.com/apache/arrow/blob/main/format/Message.fbs
"""

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.data import DatasetError
from trainer.data.archives import budget_bytes
from trainer.data.table_limits import VALUE_BYTES, check_claimed_rows, expands, read_at


MAGIC = b"ARROW1"  # around the messages in a file that is no stream
HEAD_BYTES, END_BYTES = 8, 10  # with padding; with the length of the footer
# Places of what is read in the tables of Message.fbs: of a message, of a record batch, of a dictionary.
HEADER, CUSTOM_METADATA = 2, 4
ROWS, BUFFERS, COMPRESSION = 0, 2, 3
DICTIONARY = 1
BUFFER_BYTES = 16  # offset in the body and length, 64 bits each
VIEW_INTS = 4  # of 32 bits in the view of one value; the first is the value's length


def read_schema(name: str, file: Any) -> pa.Schema:
    """Of an Arrow file or stream. Raises pa.ArrowInvalid: it is damaged, or none."""
    return pa.ipc.open_stream(_CheckedMessages(name, file)).schema


def read_batches(name: str, file: Any) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file, or of a stream in one, from its beginning to its end: no footer is believed.

    Args:
        name: what messages call it.

    Raises:
        DatasetError: it claims or becomes far more than its bytes. pa.ArrowInvalid: it is damaged.
    """
    messages = _CheckedMessages(name, file)
    for batch in pa.ipc.open_stream(messages):
        batch.validate(full=True)
        messages.count(sum(map(_repeated_bytes, batch.columns)))
        yield batch


class _CheckedMessages(io.RawIOBase):
    """A stream of the messages in a file. Each is looked at before it is handed out."""

    def __init__(self, name: str, file: Any):
        self._name, self._size = name, file.seek(0, io.SEEK_END)
        self._bytes, self._rows = 0, 0
        start, end = _place_of_messages(name, file, self._size)
        # a stream that gives no more than there is, and allocates no more, whatever length is asked for
        self._messages = iter(pa.ipc.MessageReader.open_stream(pa.PythonFile(file, "r").get_stream(start, end - start)))
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        content = b""
        while len(content) < size and (self._left or self._next_message()):
            part = self._left[: size - len(content)]
            content, self._left = content + part if content else bytes(part), self._left[len(part) :]
        return content

    def count(self, more: int) -> None:
        """Raises `DatasetError` where the file becomes too many bytes."""
        self._bytes += more
        if self._bytes > budget_bytes(self._size):
            raise expands(self._name, self._size, self._bytes)

    def _next_message(self) -> bool:
        message = next(self._messages, None)
        if message is None:
            return False
        if message.type in ("record batch", "dictionary"):
            table = _Table.root(message.metadata.to_pybytes())
            # Before version 5 another place than the field may say that a body is compressed.
            is_old = message.metadata_version != pa.ipc.MetadataVersion.V5 and table.has(CUSTOM_METADATA)
            batch = table.child(HEADER) if message.type == "record batch" else table.child(HEADER).child(DICTIONARY)
            self._rows += batch.number(ROWS)
            check_claimed_rows(self._name, self._rows, self._size)
            self.count(sum(_buffer_sizes(batch, memoryview(message.body), is_old or batch.has(COMPRESSION))))
        self._left = memoryview(message.serialize())
        return True


def _place_of_messages(name: str, file: Any, size: int) -> tuple[int, int]:
    """Where they begin and end. Raises `DatasetError` where the end of the file is missing."""
    if read_at(file, 0, len(MAGIC)) != MAGIC:
        return 0, size
    end = read_at(file, max(size - END_BYTES, 0), END_BYTES)
    messages_end = size - END_BYTES - int.from_bytes(end[:4], "little")
    if not end.endswith(MAGIC) or messages_end < HEAD_BYTES:
        raise DatasetError(f"{name} cannot be read as an Arrow file: its end is missing.")
    return HEAD_BYTES, messages_end


def _buffer_sizes(batch: "_Table", body: memoryview, is_compressed: bool) -> Iterator[int]:
    """Bytes in memory."""
    for offset, length in batch.pairs(BUFFERS):
        unpacked = int.from_bytes(body[offset : offset + 8], "little", signed=True) if is_compressed and length else -1
        yield max(unpacked, length, 0)


def _repeated_bytes(array: pa.Array) -> int:
    """What values take that the rows of a column share, once each has its own."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _repeated_bytes(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return len(array) * _longest_value(array.dictionary)
    if kind in (pa.binary_view(), pa.string_view()):
        return int(_view_lengths(array).sum(dtype=np.int64))
    if pa.types.is_struct(kind):
        return sum(_repeated_bytes(array.field(index)) for index in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _repeated_bytes(array.values)
    return 0


def _longest_value(values: pa.Array) -> int:
    kind = values.type
    if kind in (pa.binary_view(), pa.string_view()):
        return int(_view_lengths(values).max(initial=0))
    if kind in (pa.binary(), pa.string(), pa.large_binary(), pa.large_string()):
        return pc.max(pc.binary_length(values)).as_py() or 0
    return values.nbytes if pa.types.is_nested(kind) else VALUE_BYTES


def _view_lengths(array: pa.Array) -> np.ndarray:
    """Of all values, (N,) int32; those of nulls are any."""
    return np.frombuffer(array.buffers()[1], np.int32)[VIEW_INTS * array.offset :: VIEW_INTS][: len(array)]


class _Table:
    """A table of a flatbuffer whose structure pyarrow has verified: https://flatbuffers.dev/internals/."""

    def __init__(self, content: bytes, place: int):
        self._content, self._place = content, place
        self._fields = place - self._unpack("<i", place)

    @classmethod
    def root(cls, content: bytes) -> "_Table":
        return cls(content, struct.unpack_from("<I", content)[0])

    def has(self, field: int) -> bool:
        return self._place_of(field) is not None

    def number(self, field: int) -> int:
        """Of 64 bits."""
        place = self._place_of(field)
        return 0 if place is None else self._unpack("<q", place)

    def child(self, field: int) -> "_Table":
        return _Table(self._content, self._target(field))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """A vector of structures of two numbers of 64 bits."""
        if self.has(field):
            start = self._target(field)
            for index in range(self._unpack("<I", start)):
                yield struct.unpack_from("<qq", self._content, start + 4 + BUFFER_BYTES * index)

    def _place_of(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry >= self._unpack("<H", self._fields):
            return None
        offset = self._unpack("<H", self._fields + entry)
        return self._place + offset if offset else None

    def _target(self, field: int) -> int:
        place = self._place_of(field)
        if place is None:
            raise DatasetError("An Arrow file is damaged: a message lacks its content.")
        return place + self._unpack("<I", place)

    def _unpack(self, layout: str, place: int) -> int:
        return struct.unpack_from(layout, self._content, place)[0]
