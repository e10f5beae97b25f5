"""Load a picture from a path, a URL, bytes, PIL or NumPy, in any common format and mode, as upright 8-bit RGB."""

import io
import os
import time
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from huggingface_hub.utils import httpx  # the HTTP client that transformers already depends on

from .errors import AgeGenderError


MAX_PIXELS = 50_000_000  # 150 MB as RGB; the largest common phone camera mode is 48 to 50 megapixels
MAX_SIDE = 32_766  # pixels: OpenCV's warpAffine takes no longer side
MAX_DOWNLOAD_BYTES = 20_000_000
DOWNLOAD_SECONDS = 20.0
# A list, because Pillow would otherwise also use Ghostscript (EPS) and readers that are not fuzzed.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"),
    *(".heic", ".heif"),  # even without pillow-heif: then such a file is an error and is not skipped silently
)
try:  # optional: HEIC, the format of iPhones
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()
    FORMATS += ("HEIF",)


class PictureError(AgeGenderError):
    """The picture cannot be used."""


class PictureNotFoundError(PictureError, FileNotFoundError):
    """There is no file at the given path."""


def load_rgb(picture: str | Path | bytes | PIL.Image.Image | np.ndarray) -> np.ndarray:
    """Return `picture` as (H, W, 3) uint8 RGB, turned upright as its EXIF orientation says.

    Transparent pixels are blended with white, 16-bit grey is scaled to 8 bits, and of an animation the first frame is taken.

    Args:
        picture: path, http(s) URL, encoded bytes, PIL image, or uint8 array (H, W), (H, W, 1), RGB or RGBA.

    Raises:
        PictureError: it is not a picture, is damaged, has more than `MAX_PIXELS` pixels or a side longer than `MAX_SIDE`,
            or could not be downloaded.
        PictureNotFoundError: there is no file at that path; also a FileNotFoundError.
    """
    if isinstance(picture, np.ndarray):
        return _array_to_rgb(picture)
    if isinstance(picture, PIL.Image.Image):
        return _image_to_rgb(picture, "the PIL image")
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _decode(bytes(picture), "the bytes given")
    if isinstance(picture, str) and picture.startswith(("http://", "https://")):
        return _decode(_download(picture), picture)
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        if not path.is_file():
            raise PictureNotFoundError(
                f"Expected a picture file, found none at {str(picture)[:200]!r}. Check the path."
            )
        return _decode(path.read_bytes(), path.name)
    raise PictureError(
        "Expected a path, an http(s) URL, encoded bytes, a PIL image or a NumPy array; "
        f"got {type(picture).__name__}. Convert it to one of these."
    )


def _decode(data: bytes, name: str) -> np.ndarray:
    return _image_to_rgb(_open(data, name), name)


def _open(data: bytes, name: str) -> PIL.Image.Image:
    if not data:
        raise PictureError(f"Expected a picture, but {name} is empty (0 bytes). Save or upload it again.")
    try:
        return PIL.Image.open(io.BytesIO(data), formats=FORMATS)
    except PIL.UnidentifiedImageError:
        raise PictureError(
            f"Expected a picture ({', '.join(FORMATS)}), but {name} is none of these, whatever its name says. "
            "Save it as JPEG or PNG."
        ) from None
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise PictureError(_too_large(name, "far more")) from None
    except Exception as error:  # Pillow's readers raise many types on damaged headers
        raise PictureError(_damaged(name, error)) from error


def _image_to_rgb(image: PIL.Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    _check_size(width, height, name)
    if width * height == 0:
        raise PictureError(f"Expected a picture, but {name} is {width} x {height} pixels. Give one with pixels.")
    try:
        image.load()
        image = _upright(image)
        if image.mode.startswith(("I", "F")):
            return _array_to_rgb(_to_8_bits(np.asarray(image)))
        if image.has_transparency_data:
            image = _over_white(image)
        return np.asarray(_in_mode(image, "RGB"))
    except Exception as error:  # many types again: Pillow reads truncated and corrupt data here
        raise PictureError(_damaged(name, error)) from error


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turned = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) != 1
        return PIL.ImageOps.exif_transpose(image) if turned else image
    except Exception:  # the pixels may be fine even if the EXIF block is damaged
        return image


def _over_white(image: PIL.Image.Image) -> PIL.Image.Image:
    image = _in_mode(image, "RGBA")
    canvas = PIL.Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _in_mode(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    """`convert` without the copy that it makes of a picture that already has this mode."""
    return image if image.mode == mode else image.convert(mode)


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """(H, W) of more than 8 bits -> uint8. Integers are 16-bit values; floats end at 1, or at 255."""
    if np.issubdtype(values.dtype, np.floating):
        values = np.nan_to_num(values)
        return (values * (255 if values.max() <= 1 else 1)).clip(0, 255).astype(np.uint8)
    return (values.astype(np.int64).clip(0, 65535) // 257).astype(np.uint8)


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise PictureError(
            "Expected a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4) in RGB order, 0 to 255; "
            f"got {array.dtype} {array.shape}. Convert it first."
        )
    _check_size(array.shape[1], array.shape[0], "the array")
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if channels == 4:
        return _image_to_rgb(PIL.Image.fromarray(array), "the array")
    return np.ascontiguousarray(array)


def _download(url: str) -> bytes:
    too_many = PictureError(
        f"Expected a picture of at most {MAX_DOWNLOAD_BYTES:,} bytes, but {url} has more. Use a smaller one."
    )
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    chunks, size = [], 0
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=DOWNLOAD_SECONDS / 2) as response:
            response.raise_for_status()
            if int(response.headers.get("content-length", 0)) > MAX_DOWNLOAD_BYTES:
                raise too_many
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_DOWNLOAD_BYTES:
                    raise too_many
                if time.monotonic() > deadline:
                    raise PictureError(f"{url} took longer than {DOWNLOAD_SECONDS:.0f} s. Download the picture first.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PictureError(f"Expected a picture at {url}, but fetching it failed: {error}. Check the URL.") from error
    return b"".join(chunks)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(_too_large(name, f"{width} x {height} = {width * height:,}"))
    if max(width, height) > MAX_SIDE:
        raise PictureError(
            f"Expected sides of at most {MAX_SIDE:,} pixels, but {name} is {width} x {height}. Cut or make it smaller."
        )


def _too_large(name: str, pixels: str) -> str:
    return f"Expected at most {MAX_PIXELS:,} pixels, but {name} has {pixels}. Make the picture smaller."


def _damaged(name: str, error: Exception) -> str:
    return f"Expected a complete picture, but {name} is damaged ({error}). Save or upload it again."
