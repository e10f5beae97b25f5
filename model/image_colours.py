"""The colours of a decoded picture: more than 8 bits to 8, and other colour spaces to sRGB."""

import io
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
from PIL.TiffImagePlugin import TiffImageFile


BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
MIN_SAMPLE_VALUES, MAX_SAMPLE_VALUES = (280, 340), (281, 341)  # for integers, for any type
WHITES = (255, 1023, 4095, 16_383, 65_535, 2**24 - 1, 2**31 - 1, 2**32 - 1)  # the largest values of common bit depths
OVERSHOOT = 1.1  # resampling makes values a little above 1 of floats that end there
STRIP_PIXELS = 1_000_000
MAX_PROFILE_BYTES = 4_000_000  # those of printers have one or two million
NOTICEABLE = 2  # of 255: a profile that changes no colour by more is sRGB


def deep_to_8_bits(image: PIL.Image.Image, upright: PIL.Image.Image, image_rgb: np.ndarray) -> None:
    """Write a grey picture of more than 8 bits into `image_rgb`, scaled by what its file says, else by its range.

    Args:
        image: as it was opened, with the tags of its file.
        upright: its values, turned upright: (H, W).
        image_rgb: (H, W, 3) uint8, overwritten.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    bits, is_unsigned = tags.get(BITS_PER_SAMPLE, (16,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == 1
    black, white = _tag(tags, MIN_SAMPLE_VALUES), _tag(tags, MAX_SAMPLE_VALUES)
    if image.format == "PPM":  # Pillow has scaled the values by the maximum that the header states
        white = 65_535
    elif white is None and bits not in (16, 32):  # those are also what pictures of fewer bits are stored in
        white = 2.0**bits - 1

    def read(rows: slice) -> np.ndarray:
        values = np.asarray(upright.crop((0, rows.start, upright.width, rows.stop)))
        # Pillow has no mode for unsigned 32 bits
        return values.view(np.uint32) if tags and bits == 32 and is_unsigned and values.dtype == np.int32 else values

    to_8_bits(read, image_rgb, black, white, is_inverted=tags.get(PHOTOMETRIC) == 0)


def to_8_bits(
    read: Callable[[slice], np.ndarray],
    result: np.ndarray,
    black: float | None = None,
    white: float | None = None,
    is_inverted: bool = False,
) -> None:
    """Scale integers or floats to 8 bits. Without `black` and `white` the range of the values tells them.

    Args:
        read: returns the values of some rows. The rows are read twice, a few at a time, to hold no second picture.
        result: uint8 of the shape of the values, or with one more axis at its end, along which they are repeated.
    """
    ranges = [_finite_range(read(rows)) for rows in strips(*result.shape[:2])]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low > high:  # all are NaN or Inf
        low, high = 0.0, 1.0
    is_float = np.issubdtype(read(slice(0, 1)).dtype, np.floating)
    whites, slack = ((1, *WHITES), OVERSHOOT) if is_float else (WHITES, 1.0)
    if black is None:
        black = min(low, 0.0)
    if white is None or white <= black:
        white = high if black < 0 else next((float(end) for end in whites if high <= end * slack), high)
    for rows in strips(*result.shape[:2]):
        values = read(rows)
        # float32 is exact enough for 8 bits, and half the memory
        scaled: np.ndarray = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
        if is_float:
            np.nan_to_num(scaled, copy=False, nan=0.0, posinf=high, neginf=low)
        scaled -= black
        scaled *= 255 / max(white - black, 1e-12)
        grey = np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)
        grey = 255 - grey if is_inverted else grey
        result[rows] = grey if grey.ndim == result.ndim else grey[..., None]


def strips(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture from top to bottom, about `STRIP_PIXELS` pixels at a time."""
    step = max(1, STRIP_PIXELS // max(width, 1))
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def _finite_range(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest number; inf and -inf where none is one."""
    if np.issubdtype(values.dtype, np.floating):
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (np.inf, -np.inf)


def to_srgb(image: PIL.Image.Image, profile: bytes | None) -> PIL.Image.Image:
    """RGB in sRGB of an RGB, grey or CMYK image with this ICC profile. A profile that cannot be used is left aside."""
    transform = _transform(profile, image.mode) if profile and len(profile) <= MAX_PROFILE_BYTES else None
    if transform is not None:
        return PIL.ImageCms.applyTransform(image, transform) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=8)  # the pictures of one camera share a profile; its transform takes longer than a small picture
def _transform(profile: bytes, mode: str) -> PIL.ImageCms.ImageCmsTransform | None:
    """None where the profile belongs to another mode, is damaged, or is sRGB under whatever name."""
    try:
        transform = PIL.ImageCms.buildTransform(
            PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            PIL.ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=PIL.ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
        colours = _colours_of(mode)
        changed = np.asarray(PIL.ImageCms.applyTransform(colours, transform), np.int16)
    except (PIL.ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    is_srgb = np.abs(changed - np.asarray(colours.convert("RGB"), np.int16)).max() <= NOTICEABLE
    return None if is_srgb else transform


def _colours_of(mode: str) -> PIL.Image.Image:
    """A small image of this mode whose channels take several values each, in every combination."""
    channels = len(PIL.Image.new(mode, (1, 1)).getbands())
    levels = np.linspace(0, 255, 6).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1).reshape(1, -1, channels)
    return PIL.Image.frombytes(mode, (grid.shape[1], 1), grid.tobytes())


def _tag(tags: Mapping[int, Any], names: tuple[int, ...]) -> float | None:
    for name in names:
        value = tags.get(name)
        if value is not None:
            return float(value[0] if isinstance(value, tuple) else value)
    return None
