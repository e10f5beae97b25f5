"""Do two grey thumbnails show the same picture? Re-encoded, relit, blurred, shifted, scaled and turned copies included."""

import cv2
import numpy as np
from scipy.fft import dctn


THUMBNAIL_SIZE = 96
MIN_SIMILARITY = 0.84
MIN_MATCHES = 14

_FREQUENCIES = 20
_FREQUENCY_FLOOR = 3  # below three half-waves a picture there is mostly light and the oval of the head
_FREQUENCY_POWER = 1.5
_radius = np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES])
_selected = (_radius >= _FREQUENCY_FLOOR) & (_radius < _FREQUENCIES)
_weights = (_radius[_selected] ** _FREQUENCY_POWER).astype(np.float32)
DESCRIPTOR_SIZE = len(_weights)
# mirroring a picture turns the sign of its odd horizontal frequencies and changes nothing else in its spectrum
MIRROR_SIGNS = np.where(np.nonzero(_selected)[1] % 2, -1, 1).astype(np.float32)

_KEYPOINTS = 150
_CONTRAST = 0.01  # a quarter of OpenCV's default: small and blurred faces have few strong keypoints
_DISTANCE_RATIO = 0.85
_MATCH_ERROR = 1.44  # thumbnail pixels
_BLACK = 6  # grey level; the corners that alignment leaves black have edges that match on any two pictures
_BLACK_MARGIN = np.ones((7, 7), np.uint8)


def spectral_descriptors(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) grey thumbnails -> (N, DESCRIPTOR_SIZE) float32 unit vectors; zeros for a picture without structure.

    Cosine transforms weighted by frequency: what all faces share (oval, eyes, light) lies in the low frequencies and
    would drown the rest, since the power in natural pictures falls with the square of the frequency.
    """
    spectra = dctn(thumbnails.astype(np.float32), axes=(-2, -1), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    weighted = spectra[:, _selected] * _weights
    return weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-6)


def same_picture(first: np.ndarray, second: np.ndarray, mirrored: bool = False) -> bool:
    """Whether two (96, 96) uint8 grey thumbnails show one picture, the first one mirrored if asked.

    Alike spectra are enough, and catch copies too blurred for keypoints; else the keypoints decide.
    """
    if mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    first_spectrum, second_spectrum = spectral_descriptors(np.stack([first, second]))
    return first_spectrum @ second_spectrum >= MIN_SIMILARITY or keypoint_matches(first, second) >= MIN_MATCHES


def keypoint_matches(first: np.ndarray, second: np.ndarray) -> int:
    """Number of SIFT keypoints (Lowe, IJCV 2004) of two thumbnails that one similarity transform maps onto each other."""
    first_points, first_features = _keypoints(first)
    second_points, second_features = _keypoints(second)
    if min(len(first_points), len(second_points)) < MIN_MATCHES:
        return 0
    nearest = cv2.BFMatcher().knnMatch(first_features, second_features, k=2)
    matches = [best for best, other in nearest if best.distance < _DISTANCE_RATIO * other.distance]
    if len(matches) < MIN_MATCHES:
        return 0
    first_xy = np.float32([first_points[match.queryIdx].pt for match in matches])
    second_xy = np.float32([second_points[match.trainIdx].pt for match in matches])
    _, inliers = cv2.estimateAffinePartial2D(first_xy, second_xy, ransacReprojThreshold=_MATCH_ERROR)
    return 0 if inliers is None else int(inliers.sum())


def _keypoints(thumbnail: np.ndarray):
    lit = cv2.erode((thumbnail > _BLACK).astype(np.uint8), _BLACK_MARGIN)
    return cv2.SIFT_create(_KEYPOINTS, contrastThreshold=_CONTRAST).detectAndCompute(thumbnail, lit)
