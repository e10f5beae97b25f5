"""What a picture file may ask of a decoder, told from its bytes before they are decoded.

A few hundred kilobytes can keep Pillow and its libraries busy for minutes, or become gigabytes: a progressive JPEG of
thousands of scans, a TIFF or EXIF directory whose tags all name the same bytes, comments that are read byte by byte. No
camera or program writes such files, so they are refused.
"""

import io
import re
from collections.abc import Iterator

import numpy as np
import PIL.Image

from .errors import PictureError


MAX_FILE_BYTES = 512 * 2**20  # before decoding: 50 megapixels of four 16-bit channels take 400 MB
MAX_PIXELS = 50_000_000  # 150 MB as RGB; the largest common phone camera mode is 48 to 50 megapixels
MAX_SIDE = 32_766  # pixels: OpenCV's warpAffine takes no longer side
MAX_VALUES_IN_PYTHON = 2_000_000  # pixels times channels of what Pillow decodes without C: about 1 s
MAX_SCANS = 100  # of a JPEG: programs write about ten
MAX_SCANNED_PIXELS = 1_000_000_000  # pixels times scans: twenty of the largest picture
MAX_MARKERS = 10_000  # of a JPEG: 20 MB of the largest segments are 300
MAX_TAGS, MAX_TAG_NUMBERS = 65_535, 400_000  # a strip a row and channel of the tallest picture takes 131,064
MAX_EXTENSION_BYTES = 1_000_000  # of a GIF before its first picture: Pillow needs quadratic time for them
MAX_COMMENTS = 1000  # in a PGM or PPM in words
# Pillow reads headers, chunks and comments piece by piece in Python.
MAX_READS, MAX_READS_OF = 300_000, {"PPM": 2_100_000, "BMP": 4_100_000}  # one and two reads a pixel, and the header

# Directories of TIFF, EXIF and the MPO of two pictures in one file
DIRECTORY_TAGS = (34_665, 34_853, 40_965)  # EXIF, GPS and interoperability, which Pillow follows
MAX_DIRECTORIES = 8
SHARED_BYTES = 65_536  # some programs let two resolutions share their bytes
NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
BYTES_OF_TYPE = np.array([NUMBER_BYTES.get(kind, 0) for kind in range(2**16)], np.float64)
PLAIN_TYPES = (1, 2, 6, 7)  # bytes and text, which stay in one piece

JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # those with a length, and the end; in pixels \0 follows \xff
AVIF_EXIF = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)


class CountedReads(io.BytesIO):
    """The bytes of a file, which may be read a limited number of times."""

    def __init__(self, data: bytes, kind: str, name: str):
        super().__init__(data)
        self._left, self._name = MAX_READS_OF.get(kind, MAX_READS), name

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise too_costly(self._name, "is made of far too many pieces")
        return super().read(size)


def bounded_file(data: bytes, kind: str, name: str) -> io.BytesIO:
    """`data` for Pillow's reader of this kind, if it can be read in bounded time and memory.

    Raises:
        PictureError: it cannot.
    """
    if kind == "JPEG":
        _check_jpeg(data, name)
    elif kind == "TIFF":
        check_directory(data, name)
    elif kind == "GIF" and (size := _gif_extension_bytes(data)) > MAX_EXTENSION_BYTES:
        raise too_costly(name, f"has {size:,} bytes of comments; {MAX_EXTENSION_BYTES:,} are read")
    elif kind == "PPM" and data[:2] in (b"P1", b"P2", b"P3") and (count := data.count(b"#")) > MAX_COMMENTS:
        raise too_costly(name, f"has {count:,} comments; {MAX_COMMENTS:,} are read")
    elif kind == "AVIF":  # Pillow would unpack EXIF and then only believe the picture's own orientation
        data = AVIF_EXIF.sub(rb"\1none", data)
    return CountedReads(data, kind, name)


def check_size(width: int, height: int, name: str) -> None:
    """
    Raises:
        PictureError: more than `MAX_PIXELS` pixels, or a side longer than `MAX_SIDE`.
    """
    if width * height > MAX_PIXELS:
        raise too_large(name, f"{width} x {height} = {width * height:,}")
    if max(width, height) > MAX_SIDE:
        raise PictureError(
            f"Expected sides of at most {MAX_SIDE:,} pixels, but {name} is {width} x {height}. Cut or make it smaller."
        )


def check_opened(image: PIL.Image.Image, name: str) -> None:
    """
    Raises:
        PictureError: as `check_size`; or Pillow would decode more than `MAX_VALUES_IN_PYTHON` in Python, or unpack EXIF that
            becomes far more than it is.
    """
    width, height = image.size
    check_size(width, height, name)
    in_python = any(tile[0] in PIL.Image.DECODERS for tile in getattr(image, "tile", ()))
    values = width * height * len(image.getbands())
    if in_python and values > MAX_VALUES_IN_PYTHON:
        raise too_costly(
            name, f"has {values:,} values in a coding that is slow to read; {MAX_VALUES_IN_PYTHON:,} are read"
        )
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        check_directory(exif, name)
    as_text = image.info.get("Raw profile type exif")  # ImageMagick's, in a PNG
    if isinstance(as_text, str):
        try:
            exif = bytes.fromhex("".join(as_text.split("\n")[3:]))
        except ValueError:
            return
        check_directory(exif, name)


def check_directory(data: bytes, name: str) -> None:
    """Check the tags of a TIFF file or of a block of EXIF before Pillow copies what they name.

    Raises:
        PictureError: they name far more bytes than there are, or too many numbers.
    """
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    is_big, byteorder = data[2] == 43, "little" if order == "<" else "big"
    count_type, place_type, begin = ("u8", "u8", 8) if is_big else ("u2", "u4", 4)
    entry = np.dtype(
        [
            (field, order + kind)
            for field, kind in (("tag", "u2"), ("type", "u2"), ("count", place_type), ("at", place_type))
        ]
    )
    width = np.dtype(count_type).itemsize
    places = [int.from_bytes(data[begin : begin + entry["at"].itemsize], byteorder)]  # type: ignore[arg-type]
    total, numbers = 0.0, 0.0
    for place in places:  # which grows
        tags = int.from_bytes(data[place : place + width], byteorder)  # type: ignore[arg-type]
        if tags > MAX_TAGS or len(places) > MAX_DIRECTORIES:
            raise too_costly(name, "has far too many tags")
        start = place + width
        entries = np.frombuffer(
            data, entry, max(0, min(tags, (len(data) - start) // entry.itemsize)), min(start, len(data))
        )
        counts = entries["count"].astype(np.float64)
        there = np.maximum(len(data) - entries["at"].astype(np.float64), 0)
        sizes = counts * BYTES_OF_TYPE[entries["type"]]
        outside = sizes > entry["at"].itemsize
        total += np.minimum(sizes, there)[outside].sum()
        numbers += np.minimum(counts, there)[outside & ~np.isin(entries["type"], PLAIN_TYPES)].sum()
        places += entries["at"][np.isin(entries["tag"], DIRECTORY_TAGS)].tolist()
    if total > len(data) + SHARED_BYTES:
        raise too_costly(name, f"has tags of {total:,.0f} bytes in {len(data):,}")
    if numbers > MAX_TAG_NUMBERS:
        raise too_costly(name, f"has {numbers:,.0f} numbers in its tags; {MAX_TAG_NUMBERS:,} are read")


def too_costly(name: str, what: str) -> PictureError:
    return PictureError(
        f"Expected a picture as cameras and programs write it, but {name} {what}. Save it as JPEG or PNG."
    )


def too_large(name: str, pixels: str) -> PictureError:
    return PictureError(f"Expected at most {MAX_PIXELS:,} pixels, but {name} has {pixels}. Make the picture smaller.")


def _check_jpeg(data: bytes, name: str) -> None:
    scans, pixels, exif = 0, 0, []
    for count, (marker, content) in enumerate(_jpeg_segments(data)):
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC) and len(content) >= 5:  # a frame's header
            pixels = int.from_bytes(content[1:3], "big") * int.from_bytes(content[3:5], "big")
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            check_directory(content[4:], name)
        scans += marker == 0xDA
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
            raise too_costly(name, f"has {scans} scans of {pixels:,} pixels, or more")
        if count > MAX_MARKERS:
            raise too_costly(name, "is made of far too many pieces")
    check_directory(b"".join(exif), name)  # Pillow joins them too


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment of the first picture."""
    found = JPEG_MARKER.search(data)
    while found and found[1] != b"\xd9":
        place = found.end()
        length = int.from_bytes(data[place : place + 2], "big")
        yield found[1][0], data[place + 2 : place + length]
        found = JPEG_MARKER.search(data, place + max(length, 2))


def _gif_extension_bytes(data: bytes) -> int:
    """How long the blocks of comments and applications before the first picture are."""
    flags = data[10] if len(data) > 10 else 0
    start = place = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    while data[place : place + 1] == b"\x21":
        place += 2
        while place < len(data) and data[place]:
            place += data[place] + 1
            if place - start > MAX_EXTENSION_BYTES:
                return place - start
        place += 1
    return place - start
