"""Picture files that ask a decoder for far more time or memory than their bytes suggest. None shows anything."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image


MEGABYTE = 1_000_000
BLACK = Image.new("RGB", (64, 48))
FIRST_TAG, UNDEFINED, LONG = 40_000, 7, 4  # tags that nothing reads; TIFF's number types


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shared_tags(count: int, size: int) -> bytes:
    """A TIFF directory, as in EXIF, of `count` tags that all name the same `size` bytes."""
    start = 8 + 2 + 12 * count + 4
    entries = [struct.pack("<HHII", FIRST_TAG + index, UNDEFINED, size, start) for index in range(count)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(entries) + bytes(4 + size)


def nested_tags(count: int, size: int) -> bytes:
    """The same in the directory that EXIF's own tag points to."""
    start = 26 + 2 + 12 * count + 4
    entries = [struct.pack("<HHII", FIRST_TAG + index, UNDEFINED, size, start) for index in range(count)]
    first = struct.pack("<HHHIIHHIII", 2, 274, 3, 1, 6, 34_665, LONG, 1, 38, 0)
    directory = struct.pack("<H", count) + b"".join(entries)
    return b"II*\0\x08\0\0\0" + first + directory + bytes(4 + size)


def jpeg_of_scans(scans: int, side: int = 7000) -> bytes:
    """A progressive JPEG, grey, whose scans after the first each say once more, in a few bytes, that nothing is there."""
    blocks = (-(-side // 8)) ** 2
    huffman = b"\xff\xc4" + struct.pack(">HB", 20, 0) + b"\1" + bytes(15) + b"\0"  # one DC code, "0": no difference
    huffman += (
        b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + b"\1" + bytes(15) + b"\xe0"
    )  # one AC code: 2^14 empty blocks
    frame = b"\xff\xc2" + struct.pack(">HBHHB3B", 11, 8, side, side, 1, 1, 0x11, 0)
    head = b"\xff\xd8" + b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\1" * 64 + frame + huffman
    first = b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 0, 0, 0) + bytes(-(-blocks // 8))
    runs = "".join("0" + "0" * 14 for _ in range(-(-blocks // 2**14)))
    runs += "1" * (-len(runs) % 8)
    again = b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 63, 0x10) + int(runs, 2).to_bytes(len(runs) // 8, "big")
    return head + first + again * (scans - 1) + b"\xff\xd9"


def jpeg_of_segments(content: bytes, count: int) -> bytes:
    """A JPEG with many copies of an APP13 segment, which is Photoshop's."""
    data = encode(BLACK, "JPEG")
    return data[:2] + (b"\xff\xed" + struct.pack(">H", len(content) + 2) + content) * count + data[2:]


def jpeg_with_exif(exif: bytes) -> bytes:
    """EXIF in as many segments as it needs, and no density, so that Pillow looks for it there."""
    data = encode(BLACK, "JPEG")
    parts = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return data[:2] + segments + data[20:]  # without JFIF's own segment


def png_of_chunks(count: int) -> bytes:
    """With empty chunks that nobody knows before the pixels."""
    data = encode(BLACK, "PNG")
    chunk = struct.pack(">I4sI", 0, b"prVt", zlib.crc32(b"prVt"))
    return data[:33] + chunk * count + data[33:]


def gif_of_comments(size: int, comments: int = 1) -> bytes:
    """`size` bytes in all."""
    data = encode(BLACK.convert("P"), "GIF")
    place = data.index(b"\x2c")
    blocks = (b"\xff" + b"c" * 255) * max(1, size // 256 // comments)
    return data[:place] + (b"\x21\xfe" + blocks + b"\0") * comments + data[place:]


def tiff_of_strips(count: int) -> bytes:
    """One pixel a strip, so that there are as many offsets."""
    entries = {
        256: (LONG, 1, 1),
        257: (LONG, 1, 30_000),
        258: (LONG, 1, 8),
        259: (LONG, 1, 1),
        262: (LONG, 1, 1),
        273: (LONG, count, 200),
        277: (LONG, 1, 1),
        278: (LONG, 1, 1),
        279: (LONG, count, 200 + 4 * count),
    }
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in entries.items())
    return (
        (b"II*\0\x08\0\0\0" + directory).ljust(200, b"\0") + struct.pack("<I", 8) * count + struct.pack("<I", 1) * count
    )


def deep(kind: str, dtype: type, side: int = 7000) -> bytes:
    """49 megapixels of more than 8 bits, which are nearly nothing when packed."""
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {"compress_level": 1}
    return encode(Image.fromarray(np.zeros((side, side), dtype)), kind, **options)


def png_bomb(side: int) -> bytes:
    """`side` x `side` black pixels of 8 bits with transparency, in a few kilobytes. 7000 take about a second."""
    rows = zlib.compress((b"\0" + bytes(4 * side)) * side, 9)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def pgm_of_comments(megabytes: int) -> bytes:
    """In many lines."""
    return b"P5\n" + b"#\n" * (megabytes * MEGABYTE // 2) + b"8 8\n255\n" + bytes(64)


def bmp_of_runs(size: int) -> bytes:
    """Run-length coded, with `size` bytes that only say that the line ends."""
    header = struct.pack("<IiiHHIIiiII", 40, 64, 48, 1, 8, 1, size, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + size, 0, 0, 1078) + header + bytes(1024) + bytes(size)


SHARED = shared_tags(2000, 1_400_000)  # what 1.4 MB become: 2.8 GB

# name -> how to make it
HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of 2,500 scans": lambda: jpeg_of_scans(2500),
    "JPEG of as many scans as are read": lambda: jpeg_of_scans(20),
    "JPEG of 100 scans": lambda: jpeg_of_scans(100, 3000),
    "JPEG of 20 MB of scans": lambda: jpeg_of_scans(300_000),
    "JPEG of a million segments": lambda: jpeg_of_segments(b"", 1_000_000),
    "JPEG of Photoshop's blocks": lambda: jpeg_of_segments(b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5000, 330),
    "EXIF of a JPEG": lambda: jpeg_with_exif(SHARED),
    "EXIF of a PNG": lambda: encode(BLACK, "PNG", exif=SHARED),
    "EXIF of a PNG, nested": lambda: encode(BLACK, "PNG", exif=nested_tags(2000, 1_400_000)),
    "EXIF of a WebP": lambda: encode(BLACK, "WEBP", exif=SHARED),
    "EXIF of an AVIF": lambda: encode(BLACK, "AVIF", exif=SHARED, speed=10),
    "EXIF of a HEIF": lambda: encode(BLACK, "HEIF", exif=SHARED),
    "PNG of a million chunks": lambda: png_of_chunks(1_000_000),
    "TIFF whose tags share 1.4 MB": lambda: shared_tags(2000, 1_400_000),
    "TIFF whose tags share 10 MB": lambda: shared_tags(300, 10 * MEGABYTE),
    "TIFF of a million strips": lambda: tiff_of_strips(1_000_000),
    "GIF with a comment of 20 MB": lambda: gif_of_comments(20 * MEGABYTE),
    "GIF of 70,000 comments": lambda: gif_of_comments(18 * MEGABYTE, 70_000),
    "PGM with a comment of 20 MB": lambda: b"P5\n#" + b"c" * 20 * MEGABYTE + b"\n1 1\n255\n\0",
    "PGM in words, with ten million comments": lambda: b"P2\n64 48\n255\n" + b"#\n" * 10 * MEGABYTE,
    "PGM in words": lambda: b"P2\n4000 2500\n255\n" + b"0 " * 10 * MEGABYTE,
    "PGM of 20 MB to 254": lambda: b"P5\n5000 4000\n254\n" + bytes(20 * MEGABYTE),
    "BMP of ten million ends of line": lambda: bmp_of_runs(20 * MEGABYTE),
    "16-bit PNG of 49 megapixels": lambda: deep("PNG", np.uint16),
    "32-bit TIFF of 49 megapixels": lambda: deep("TIFF", np.int32),
    "float TIFF of 49 megapixels": lambda: deep("TIFF", np.float32),
}
