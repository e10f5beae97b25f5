"""The colours of a decoded picture: more than 8 bits to 8, and other colour spaces to sRGB."""

import io
from functools import lru_cache

import numpy as np
import PIL.Image
import PIL.ImageCms
from PIL.TiffImagePlugin import TiffImageFile


BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
MIN_SAMPLE_VALUES, MAX_SAMPLE_VALUES = (280, 340), (281, 341)  # for integers, for any type
WHITES = (255, 1023, 4095, 16_383, 65_535, 2**24 - 1, 2**31 - 1, 2**32 - 1)  # the largest values of common bit depths
OVERSHOOT = 1.1  # resampling makes values a little above 1 of floats that end there
NOTICEABLE = 2  # of 255: a profile that changes no colour by more is sRGB


def deep_to_8_bits(image: PIL.Image.Image, decoded: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of a grey picture of more than 8 bits, scaled by what its file says, else by its range.

    Args:
        image: as it was opened, with the tags of its file.
        decoded: (H, W), the values of `image`, turned upright.
    """
    if image.format == "PPM":  # Pillow has scaled the values by the maximum that the header states
        return to_8_bits(decoded, white=65_535)
    if not isinstance(image, TiffImageFile):
        return to_8_bits(decoded)
    tags = image.tag_v2
    bits, is_unsigned = tags.get(BITS_PER_SAMPLE, (16,))[0], tags.get(SAMPLE_FORMAT, (1,))[0] == 1
    if bits == 32 and is_unsigned and decoded.dtype == np.int32:
        decoded = decoded.view(np.uint32)  # Pillow has no mode for these
    black = _tag(image, MIN_SAMPLE_VALUES)
    white = _tag(image, MAX_SAMPLE_VALUES)
    if white is None and bits not in (16, 32):  # those are also what pictures of fewer bits are stored in
        white = 2.0**bits - 1
    return to_8_bits(decoded, black, white, is_inverted=tags.get(PHOTOMETRIC) == 0)


def to_8_bits(
    values: np.ndarray, black: float | None = None, white: float | None = None, is_inverted: bool = False
) -> np.ndarray:
    """Integers or floats of any shape -> uint8. Without `black` and `white` the range of the values tells them."""
    is_float = np.issubdtype(values.dtype, np.floating)
    # float32 is exact enough for 8 bits, and half the memory
    scaled: np.ndarray = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
    if is_float:
        finite = scaled[np.isfinite(scaled)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=high, neginf=low)
    else:
        low, high = float(values.min()), float(values.max())
    whites, slack = ((1, *WHITES), OVERSHOOT) if is_float else (WHITES, 1.0)
    if black is None:
        black = min(low, 0.0)
    if white is None or white <= black:
        white = high if black < 0 else next((float(end) for end in whites if high <= end * slack), high)
    scaled -= black
    scaled *= 255 / max(white - black, 1e-12)
    grey = np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)
    return 255 - grey if is_inverted else grey


def to_srgb(image: PIL.Image.Image, profile: bytes | None) -> PIL.Image.Image:
    """RGB in sRGB of an RGB, grey or CMYK image with this ICC profile. A profile that cannot be used is left aside."""
    transform = _transform(profile, image.mode) if profile else None
    if transform is not None:
        return PIL.ImageCms.applyTransform(image, transform) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(
    maxsize=16
)  # the pictures of one camera share a profile; building a transform takes longer than a small picture
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


def _tag(image: TiffImageFile, names: tuple[int, ...]) -> float | None:
    for name in names:
        value = image.tag_v2.get(name)
        if value is not None:
            return float(value[0] if isinstance(value, tuple) else value)
    return None
