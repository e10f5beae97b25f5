"""Pictures inside an answer, as data URLs, so that no file is written for them."""

import base64
import io

from PIL import Image


PREVIEW_SIDE = 1600  # pixels of the longer side


def preview(picture: Image.Image) -> Image.Image:
    """A copy of at most `PREVIEW_SIDE` pixels."""
    copy = picture.copy()
    copy.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2)
    return copy


def data_url(picture: Image.Image) -> str:
    """A JPEG as text."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
