"""Pictures that visitors send: uploaded files and webcam frames become arrays."""

import base64
import binascii
from pathlib import Path

import numpy as np

from demo.decoding import FRAMES, PICTURES
from model.errors import PictureError


MAX_SHOWN = 100  # characters of a file's name in a message


class PictureDeletedError(PictureError):
    """The uploaded file is gone: it was kept for as long as the page says."""


def read_upload(picture: dict | None) -> np.ndarray:
    """Read an uploaded picture, (H, W, 3) uint8. Gradio has checked that the path is one of its own uploads.

    Raises:
        PictureDeletedError: the file has been deleted. PictureError: there is no file.
        AgeGenderError: what `Decoders.decode` raises.
    """
    path = path_of(picture)
    if not path:
        raise PictureError("Expected a picture file; none came. Upload one.")
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise PictureDeletedError("This picture has been deleted in the meantime. Choose it again.") from None
    name = Path(path).name
    return PICTURES.decode(content, name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}...")


def read_bytes(picture: bytes) -> np.ndarray:
    """Read a picture that came with its question, (H, W, 3) uint8; it was never a file. Raises what `Decoders.decode` does."""
    return PICTURES.decode(picture, "the picture")


def path_of(picture: dict | None) -> str | None:
    """The path in Gradio's description of a file; None where there is none."""
    path = picture.get("path") if isinstance(picture, dict) else None
    return path if isinstance(path, str) else None


def read_frame(frame: dict | None) -> np.ndarray:
    """Read a webcam's frame, (H, W, 3) uint8, from a data URL. Gradio itself would decode it without a limit of its size.

    Raises:
        PictureError: `frame["url"]` is not a data URL. AgeGenderError: what `Decoders.decode` raises.
    """
    head, mark, data = str(isinstance(frame, dict) and frame.get("url")).partition(";base64,")
    if not mark or not head.startswith("data:image/"):
        raise PictureError("Expected a webcam's picture as a data URL.")
    try:
        content = base64.b64decode(data)
    except binascii.Error:
        raise PictureError("Expected a webcam's picture as a data URL in base64; it is damaged.") from None
    return FRAMES.decode(content, "the webcam's picture")
