"""How long an MP4 file is to be shown, which is less than what it holds where it was trimmed without encoding it anew."""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO


MP4_SUFFIXES = (".mp4", ".m4v", ".mov")


def shown_seconds(path: Path) -> float:
    """Of its movie header (ISO/IEC 14496-12, "mvhd"); infinity where there is none, or none that says it."""
    with path.open("rb") as file:
        movie = _find_box(file, b"moov", 0, os.fstat(file.fileno()).st_size)
        header = movie and _find_box(file, b"mvhd", *movie)
        if not header:
            return math.inf
        file.seek(header[0])
        # version and flags, when it was made and changed, units a second, duration in them
        layout = ">3x16xIQ" if file.read(1) == b"\x01" else ">3x8xII"
        content = file.read(struct.calcsize(layout))
    units_per_second, duration = struct.unpack(layout, content) if len(content) == struct.calcsize(layout) else (0, 0)
    return duration / units_per_second if duration and units_per_second else math.inf


def _find_box(file: BinaryIO, kind: bytes, place: int, end: int) -> tuple[int, int] | None:
    """Where the content of the first box of that kind begins and ends, of those that lie side by side from `place` on.

    A box is its length in four bytes and its kind in four; where that length is 1, eight bytes follow with the length, and
    where it is 0, the box goes up to the end.
    """
    while place + 8 <= end:
        file.seek(place)
        length, found = struct.unpack(">I4s", file.read(8))
        begin = place + 8
        if length == 1:
            length, begin = int.from_bytes(file.read(8), "big"), place + 16
        after = place + length if length else end
        if found == kind:
            return begin, after
        if after < begin:
            return None
        place = after
    return None
