"""Load a picture from a path, a URL, base64 text, bytes, PIL or NumPy, in any common format and mode, as upright 8-bit RGB."""

import base64
import binascii
import os
import re
import time
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import PIL.Image
from huggingface_hub.utils import httpx  # the HTTP client that transformers already depends on

from .decoding_limits import MAX_FILE_BYTES, check_size
from .errors import PictureError
from .image_decoding import decode, image_to_rgb
from .image_formats import recognised_format


MAX_DOWNLOAD_BYTES = 20_000_000
DOWNLOAD_SECONDS = 20.0
MAX_SHOWN = 200  # characters of a path or URL in a message
EXPECTED = "a path, an http(s) URL, base64 text, a data: URL, encoded bytes, a PIL image or a NumPy array"


class PictureNotFoundError(PictureError, FileNotFoundError):
    """There is no file at the given path."""


def load_rgb(picture: str | os.PathLike[str] | bytes | PIL.Image.Image | np.ndarray) -> np.ndarray:
    """Return `picture` as (H, W, 3) uint8 sRGB, turned upright as its EXIF orientation says.

    Transparent pixels are blended with white, other colour profiles are converted to sRGB, grey of more than 8 bits is
    scaled to 8, and of an animation the first frame is taken.

    Args:
        picture: path, http(s) URL, base64 of a picture file or a `data:` URL, encoded bytes, PIL image, or uint8 array
            (H, W), (H, W, 1), RGB or RGBA.

    Raises:
        PictureError: it is not a picture, is damaged, has more than `MAX_PIXELS` pixels or a side longer than `MAX_SIDE`,
            or could not be downloaded.
        PictureNotFoundError: there is no file at that path; also a FileNotFoundError.
    """
    if isinstance(picture, np.ndarray):
        return _array_to_rgb(picture)
    if isinstance(picture, PIL.Image.Image):
        return image_to_rgb(picture, "the PIL image")
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return decode(bytes(picture), "the bytes given")
    if isinstance(picture, str) and picture.startswith(("http://", "https://")):
        return decode(_download(picture), _shown(picture))
    if isinstance(picture, str) and _is_data_url(picture):
        return decode(_content_of_data_url(picture), "the data: URL")
    if isinstance(picture, (str, os.PathLike)):
        if _is_file(picture):
            return decode(_read(Path(picture)), _shown(Path(picture).name))
        content = embedded_picture(picture) if isinstance(picture, str) else None
        if content:
            return decode(content, "the base64 text")
        text = str(picture)
        if len(text) > MAX_SHOWN:  # perhaps a picture: of no use in a message, and not to be logged
            raise PictureNotFoundError(
                f"Expected {EXPECTED}; got a text of {len(text):,} characters that is neither base64 of a picture "
                "nor the path of a file. Check it."
            )
        raise PictureNotFoundError(f"Expected a picture file, found none at {text!r}. Check the path.")
    raise PictureError(f"Expected {EXPECTED}; got {type(picture).__name__}. Convert it to one of these.")


def embedded_picture(text: str) -> bytes | None:
    """The picture file that a text itself holds, as a data: URL or in base64; None for a path or an address.

    Raises:
        PictureError: a data: URL is damaged.
    """
    if _is_data_url(text):
        return _content_of_data_url(text)
    content = _decode_base64(text)
    return content if content and recognised_format(content) else None  # "abcd" is base64 too, but much likelier a path


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise PictureError(
            f"{_shown(path.name)} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Is it a picture? Save it as a JPEG."
        )
    return path.read_bytes()


def _is_file(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a text too long for a path, or with a null byte
        return False


def _decode_base64(text: str) -> bytes | None:
    """None where the text is no base64."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # some encoders break lines
    except (binascii.Error, ValueError):
        return None


def _content_of_data_url(url: str) -> bytes:
    """See RFC 2397."""
    head, comma, text = url.partition(",")
    is_base64 = re.search(r";\s*base64\s*$", head, re.IGNORECASE)
    content = _decode_base64(text) if is_base64 else unquote_to_bytes(text)
    if not comma or content is None:
        raise PictureError(
            f"Expected a data: URL such as data:image/png;base64,iVBOR..., got one of {len(url):,} characters whose "
            f"{'base64 is damaged' if comma else 'comma is missing'}. Encode the picture again."
        )
    return content


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise PictureError(
            "Expected a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4) in RGB order, 0 to 255; "
            f"got {array.dtype} {array.shape}. Convert it first."
        )
    check_size(array.shape[1], array.shape[0], "the array")
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if channels == 4:
        return image_to_rgb(PIL.Image.fromarray(array), "the array")
    return np.ascontiguousarray(array)


def _download(url: str) -> bytes:
    shown = _shown(url)
    too_many = PictureError(
        f"Expected a picture of at most {MAX_DOWNLOAD_BYTES:,} bytes, but {shown} has more. Use a smaller one."
    )
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    chunks, size = [], 0
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=DOWNLOAD_SECONDS / 2) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_DOWNLOAD_BYTES:
                    raise too_many
                if time.monotonic() > deadline:
                    raise PictureError(
                        f"{shown} took longer than {DOWNLOAD_SECONDS:.0f} s. Download the picture first."
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error).replace(url, shown)[: 2 * MAX_SHOWN]
        raise PictureError(
            f"Expected a picture at {shown}, but fetching it failed: {reason}. Check the URL."
        ) from error
    return b"".join(chunks)


def _shown(name: str) -> str:
    return name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
