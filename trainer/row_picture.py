"""The picture of a row, or an error that says which row it is."""

from typing import Any

import numpy as np

from model.image_loading import PictureError, load_rgb


def load_row_picture(row: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of `image`, upright.

    Raises:
        PictureError: it cannot be used, as in a set prepared elsewhere; begins with the row's `file_name`.
    """
    try:
        return load_rgb(row["image"])
    except PictureError as error:
        raise PictureError(f"{row['file_name']}: {error}") from error
