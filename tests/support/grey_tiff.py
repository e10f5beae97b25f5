"""TIFF files of grey pictures with any number of bits, which Pillow reads but does not write."""

import struct

import numpy as np


BITS, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT, MAX_SAMPLE_VALUE = 258, 262, 274, 339, 281


def grey_tiff(values: np.ndarray, order: str = "<", **tags: int) -> bytes:
    """One strip of the values as they are: (H, W) unsigned, signed or floats.

    order: "<" for Intel's byte order, ">" for Motorola's.
    tags: photometric (0: white is zero), orientation (1 to 8, as in EXIF), max_sample_value.
    """
    height, width = values.shape
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries = {
        256: width,
        257: height,
        BITS: values.dtype.itemsize * 8,
        259: 1,
        PHOTOMETRIC: tags.get("photometric", 1),
        273: 8,
        ORIENTATION: tags.get("orientation", 1),
        277: 1,
        278: height,
        279: len(pixels),
        SAMPLE_FORMAT: {"u": 1, "i": 2, "f": 3}[values.dtype.kind],
    }
    if "max_sample_value" in tags:
        entries[MAX_SAMPLE_VALUE] = tags["max_sample_value"]
    directory = struct.pack(order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        directory += struct.pack(order + "HHII", tag, 4, 1, value)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8 + len(pixels)) + pixels + directory + bytes(4)
