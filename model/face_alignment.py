"""Align a face: from its landmarks or box to the square crop that the model is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .configuration_age_gender import UTKFACE_LANDMARKS_XY
from .errors import AgeGenderError


# Corners x0, y0, x1, y1 of UTKFace's aligned crops, as fractions of YuNet's box and of the cascade's: the means that
# `python -m scripts.benchmarks.detection --calibrate` prints.
YUNET_CROP = (-0.102, 0.058, 1.102, 1.027)
CASCADE_CROP = (0.025, 0.103, 0.989, 1.067)


@dataclass(frozen=True, eq=False)
class Face:
    """One face in an upright picture.

    box_xyxy: (4,) left, top, right, bottom in pixels; may extend past the picture's edge.
    score: the detector's confidence, 0 to 1; None if the detector gives none.
    landmarks_xy: (5, 2) pixels: eye, eye, nose, mouth corner, mouth corner, the viewer's left first; None if unknown.
    box_crop: for a face without landmarks, where the training crop lies around the box, as fractions of it.
    roll_degrees: how far the head is turned in the picture, clockwise as seen, -180 to 180; None if unknown.
    is_roll_certain: whether no other orientation is about as likely; False is a reason to give no answer.
    """

    box_xyxy: np.ndarray
    score: float | None = None
    landmarks_xy: np.ndarray | None = None
    box_crop: Sequence[float] = YUNET_CROP
    roll_degrees: float | None = None
    is_roll_certain: bool = True

    @classmethod
    def from_box(cls, box: Sequence[float], picture_wh: tuple[int, int]) -> "Face":
        """A face that another detector found: `box` is (x0, y0, x1, y1) in pixels of a picture of `picture_wh` pixels.

        Raises:
            AgeGenderError: the box is not four finite numbers, is empty, or lies outside the picture.
        """
        try:
            box_xyxy = np.asarray(box, dtype=float)
        except (TypeError, ValueError):
            box_xyxy = np.empty(0)
        if (
            box_xyxy.shape != (4,)
            or not np.isfinite(box_xyxy).all()
            or (np.minimum(box_xyxy[2:], picture_wh) <= np.maximum(box_xyxy[:2], 0)).any()
        ):
            raise AgeGenderError(
                "Expected boxes as (x0, y0, x1, y1) in pixels, with x0 < x1 and y0 < y1, that overlap the picture of "
                f"{picture_wh[0]} x {picture_wh[1]} pixels; got {box!r}."
            )
        return cls(box_xyxy)

    @property
    def width(self) -> float:
        return float(self.box_xyxy[2] - self.box_xyxy[0])

    @property
    def center_xy(self) -> np.ndarray:
        """(2,) pixels: the mean of the landmarks, or the middle of the box where there are none."""
        points_xy = self.box_xyxy.reshape(2, 2) if self.landmarks_xy is None else self.landmarks_xy
        return points_xy.mean(axis=0)


def align(image_rgb: np.ndarray, face: Face, landmarks_xy: Sequence[Sequence[float]], size: int) -> np.ndarray:
    """Cut `face` out as the (size, size, 3) uint8 crop that is the model's input.

    Past the picture's edge the edge pixels are repeated. `crop_matrix` describes the geometry.
    """
    return warp_square(image_rgb, crop_matrix(face, landmarks_xy, size), size)


def crop_matrix(face: Face, landmarks_xy: Sequence[Sequence[float]], size: float) -> np.ndarray:
    """(2, 3) matrix from picture to crop, both in pixels; the first pixel covers 0 to 1.

    With landmarks it is the similarity transform (rotation, scale, shift) that brings them closest to `landmarks_xy`,
    (5, 2) fractions of the crop's side. Without, it maps `face.box_crop` turned by `face.roll_degrees`, or upright.
    """
    if face.landmarks_xy is not None:
        matrix = _similarity(face.landmarks_xy, np.asarray(landmarks_xy) * size)
        if matrix is not None:
            return matrix
    corner, extent = face.box_xyxy[:2], face.box_xyxy[2:] - face.box_xyxy[:2]
    crop = np.asarray(face.box_crop).reshape(2, 2)
    turn = np.exp(1j * np.deg2rad(face.roll_degrees or 0))
    box_center, crop_center = (complex(*(corner + extent * at)) for at in ((0.5, 0.5), crop.mean(axis=0)))
    side = np.sqrt(np.prod((crop[1] - crop[0]) * extent))
    return square_matrix(box_center + turn * (crop_center - box_center), side * turn, size)


def roll_of(landmarks_xy: np.ndarray) -> float:
    """How far the head is turned, in degrees clockwise as seen, -180 to 180: of the similarity from UTKFace's template.

    0 for five landmarks (5, 2) that are one point.
    """
    matrix = _similarity(landmarks_xy, np.asarray(UTKFACE_LANDMARKS_XY))
    return 0.0 if matrix is None else float(-np.angle(complex(*matrix[:, 0]), deg=True))


def resize_square(image_rgb: np.ndarray, size: int) -> np.ndarray:
    """Resize the largest centred square of a face crop to (size, size, 3), with the filter of `align`."""
    height, width = image_rgb.shape[:2]
    return warp_square(image_rgb, square_matrix(complex(width / 2, height / 2), min(height, width), size), size)


def shrink(image_rgb: np.ndarray, scale: float) -> np.ndarray:
    """Resize both sides by `scale`, to at least one pixel; a picture is never enlarged."""
    if scale >= 1:
        return image_rgb
    height, width = (max(round(side * scale), 1) for side in image_rgb.shape[:2])
    return cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)


def square_matrix(center: complex, side: complex, size: float) -> np.ndarray:
    """(2, 3) matrix that maps a square to (size, size); `center` and `side` (its upper edge) are x + iy in pixels."""
    factor = size / side
    return _similarity_matrix(factor, size / 2 * (1 + 1j) - factor * center)


def _similarity_matrix(factor: complex, shift: complex) -> np.ndarray:
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def warp_square(image_rgb: np.ndarray, matrix: np.ndarray, size: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Apply (2, 3) `matrix`, which maps picture to crop with pixel (0, 0) covering 0 to 1, without aliasing.

    OpenCV's warp interpolates single pixels, which skips most pixels of a large face. So the crop is drawn a whole
    multiple too large and averaged down.
    """
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    multiple = int(np.ceil(min(1 / scale, 16) - 1e-6)) if scale < 1 else 1
    large = matrix * multiple
    large[:, 2] += large[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV puts a pixel's coordinates at its centre
    warped = cv2.warpAffine(
        image_rgb, large, (size * multiple, size * multiple), flags=cv2.INTER_LINEAR, borderMode=border
    )
    return warped if multiple == 1 else cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


class HalvedPicture:
    """A picture (H, W, 3) and its halvings, each made when it is first needed: a large face is cut out of one in less time."""

    def __init__(self, image_rgb: np.ndarray):
        self._levels = [image_rgb]

    def warp_square(self, matrix: np.ndarray, size: int) -> np.ndarray:
        """As the function, with black past the edge, from the halving that has one to two pixels for each of the crop's.

        Args:
            matrix: from the picture itself to the crop, whatever it is cut out of.
        """
        halvings = max(int(-np.log2(np.hypot(matrix[0, 0], matrix[1, 0]))), 0)
        while len(self._levels) <= halvings:
            self._levels.append(shrink(self._levels[-1], 0.5))
        (height, width), level = self._levels[0].shape[:2], self._levels[halvings]
        from_level = matrix * (width / level.shape[1], height / level.shape[0], 1)
        return warp_square(level, from_level, size, cv2.BORDER_CONSTANT)


def _similarity(from_xy: np.ndarray, to_xy: np.ndarray) -> np.ndarray | None:
    """(2, 3) similarity without reflection that brings points (N, 2) closest to others; None if they are one point.

    Least squares in closed form (Umeyama, 1991), in complex numbers: rotation and scale are one factor.
    """
    source, target = (np.asarray(points, float) @ (1, 1j) for points in (from_xy, to_xy))
    centered = source - source.mean()
    spread = np.vdot(centered, centered).real
    if spread < 1e-6:
        return None
    factor = np.vdot(centered, target - target.mean()) / spread
    if abs(factor) < 1e-6:
        return None
    return _similarity_matrix(factor, target.mean() - factor * source.mean())
