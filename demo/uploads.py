"""What the page and the API are sent, read into pictures."""

import base64

import numpy as np

from model.image_loading import load_rgb


class Deleted(ValueError):
    """The picture was kept for as long as the page says."""


def read_upload(picture: dict | None) -> np.ndarray:
    """(H, W, 3). Gradio has checked that the path is one of its own uploads. Raises `ValueError`, `Deleted`."""
    path = path_of(picture)
    if not path:
        raise ValueError("Expected a picture file; none came. Upload one.")
    try:
        return load_rgb(path)
    except FileNotFoundError:
        raise Deleted("This picture has been deleted in the meantime. Choose it again.") from None


def read_frame(frame: dict) -> np.ndarray:
    """(H, W, 3) of a webcam's picture as a data URL, which Gradio would decode before anybody asked for its size."""
    head, mark, data = str(isinstance(frame, dict) and frame.get("url")).partition(";base64,")
    if not mark or not head.startswith("data:image/"):
        raise ValueError("Expected a webcam's picture as a data URL.")
    return load_rgb(base64.b64decode(data))


def path_of(picture: dict | None) -> str | None:
    path = picture.get("path") if isinstance(picture, dict) else None
    return path if isinstance(path, str) else None
