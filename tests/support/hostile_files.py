"""Small files that ask for much time or memory: what they state is larger than what they hold."""

import io
import re
import struct
import zlib

import numpy as np
from PIL import Image

from tests.support.odd_pictures import png


SHORT, LONG, BYTE, UNDEFINED = 3, 4, 1, 7  # types of TIFF's values


def tiff_of_shared_blob(megabytes: float, tags: int) -> bytes:
    """Of 8 x 8 pixels, with many tags of which each is the same `megabytes` of the file."""
    size = int(megabytes * 1e6)
    entries = [(256, SHORT, 1, 8), (257, SHORT, 1, 8), (258, SHORT, 1, 8), (259, SHORT, 1, 1), (262, SHORT, 1, 1)]
    entries += [(273, LONG, 1, 8), (277, SHORT, 1, 1), (278, SHORT, 1, 8), (279, LONG, 1, 64)]
    entries += [(40_000 + number, UNDEFINED, size, 8) for number in range(tags)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + directory


def png_with_exif(exif: bytes) -> bytes:
    return png(8, (b"eXIf", exif))


def webp_with_exif(exif: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "WEBP", exif=b"Exif\0\0" + exif)
    return buffer.getvalue()


def jpeg_of_many_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG whose last scan is there many times; each is a pass over all pixels."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 77).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = [match.start() for match in re.finditer(b"\xff\xda", data)][-1]
    return data[:last] + data[last:-2] * scans + data[-2:]


def deep_png(side: int) -> bytes:
    """Grey of 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), 40_000, np.uint16)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def float_tiff(side: int) -> bytes:
    """Grey of 32 bits, packed."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side), 0.5, np.float32)).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    return buffer.getvalue()


def pgm_of_comments(megabytes: int) -> bytes:
    return b"P5\n" + b"#\n" * (megabytes * 500_000) + b"8 8\n255\n" + bytes(64)


def gif_of_comments(megabytes: int) -> bytes:
    comment = b"!\xfe" + b"\xff" + b"c" * 255 + b"\0"
    head = b"GIF89a" + struct.pack("<HH", 8, 8) + b"\x80\0\0" + bytes(6)
    return (
        head
        + comment * (megabytes * 1_000_000 // len(comment))
        + b","
        + bytes(4)
        + struct.pack("<HH", 8, 8)
        + b"\0\2\0;"
    )


def png_bomb(side: int) -> bytes:
    """`side` x `side` black pixels of 8 bits with transparency, in a few kilobytes."""
    rows = zlib.compress((b"\0" + bytes(4 * side)) * side, 9)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
