"""One public-domain portrait, with one face, at other sizes, tilts and places."""

import cv2
import numpy as np
from skimage.data import astronaut


PORTRAIT = astronaut()  # (512, 512, 3) uint8


def scaled(factor: float) -> np.ndarray:
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(PORTRAIT, None, fx=factor, fy=factor, interpolation=interpolation)


def tilted(degrees: float) -> np.ndarray:
    """The portrait turned clockwise about the face."""
    matrix = cv2.getRotationMatrix2D((224, 120), -degrees, 1)
    return cv2.warpAffine(PORTRAIT, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)


def on_canvas(image_rgb: np.ndarray, width: int, height: int, x: int, y: int) -> np.ndarray:
    """A grey picture, (height, width, 3), with another in it whose upper left corner lies at (x, y)."""
    canvas = np.full((height, width, 3), 120, np.uint8)
    canvas[y : y + image_rgb.shape[0], x : x + image_rgb.shape[1]] = image_rgb
    return canvas
