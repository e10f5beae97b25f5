"""ICC profiles of the colour spaces that cameras and editors use, written by hand as matrix and gamma."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms


# Columns: the XYZ of red, green and blue relative to D50, as the published profiles state them; the gamma of all three.
SPACES = {
    "Display P3": ([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]], 2.2),
    "Adobe RGB": ([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]], 2.19921875),
    "ProPhoto": ([[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0.0000, 0.0000, 0.8249]], 1.8),
}


def profile(space: str) -> bytes:
    """An ICC profile of version 2 for RGB displays."""
    matrix, gamma = SPACES[space]
    curve = struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))
    description = struct.pack(">4s4xI", b"desc", len(space) + 1) + space.encode() + bytes(1 + 8 + 3 + 67)
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz((0.9642, 1.0, 0.8249))}
    tags |= {kind + b"XYZ": _xyz(column) for kind, column in zip((b"r", b"g", b"b"), np.transpose(matrix), strict=True)}
    tags |= {kind + b"TRC": curve for kind in (b"r", b"g", b"b")}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3i", *_fixed((0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + table + body


def in_space(image: Image.Image, space: str) -> Image.Image:
    """An sRGB picture as an editor that works in `space` would store it."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile(space)))
    return ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target, renderingIntent=1)


def _fixed(values) -> list[int]:
    """s15Fixed16Number."""
    return [round(float(value) * 65536) for value in values]


def _xyz(values) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *_fixed(values))
