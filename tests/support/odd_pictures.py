"""Valid and malformed picture files that tests upload to the demo."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image
from skimage.data import astronaut


pillow_heif.register_heif_opener()


def encoded(kind: str, picture: np.ndarray | Image.Image | None = None, **options: object) -> bytes:
    """`picture` as a file of this format; without `picture`, the portrait."""
    buffer = io.BytesIO()
    image = (
        picture if isinstance(picture, Image.Image) else Image.fromarray(astronaut() if picture is None else picture)
    )
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(side: int, *more_chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims `side` x `side` grey pixels in a few kilobytes."""
    pixels = zlib.compress(
        bytes(side + 1) * min(side, 64)
    )  # the first rows are enough: a picture of this size must be refused before
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        *more_chunks,
        (b"IDAT", pixels),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def gif(side: int) -> bytes:
    """A GIF that claims `side` x `side` pixels and holds none."""
    size = struct.pack("<HH", side, side)
    return b"GIF89a" + size + bytes(3) + b"," + bytes(4) + size + b"\0\2\0;"
