"""Do two grey thumbnails show the same picture? Re-encoded, relit, blurred, shifted, scaled and turned copies included."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import faiss
import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm


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


VIEWS = (slice(0, THUMBNAIL_SIZE), slice(20, 76))  # the centre is seen alike by crops of different width
_NEIGHBOURS = 8  # candidates of one picture and view, at most
_BACKGROUND_NEIGHBOUR = 32  # faces as like as this one are no copies any more
_MARGIN = 0.17  # in similarity, by which a candidate stands out from the background
_LEAST_SIMILARITY = 0.25  # of any candidate: a small set has no background near enough to stand out from
SURE_CANDIDATE = 0.7  # similarity of whole pictures that makes a candidate whatever the background
EXACT_SEARCH_LIMIT = 100_000  # pictures; above it the search looks at the likeliest inverted lists only
_CHUNK = 8192


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of size and decoded RGB pixels: equal for one picture under many names or file headers."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def grey_thumbnail(image: Image.Image) -> np.ndarray:
    """(96, 96) uint8: the grey picture, whatever its aspect."""
    size_wh = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return np.asarray(image.convert("L").resize(size_wh, Image.Resampling.BILINEAR))


def group_duplicates(hashes: Sequence[str], thumbnail_of: Callable[[int], bytes | memoryview]) -> np.ndarray:
    """(N,) group names: the smallest pixel hash of each group, so that they depend on content and not on order.

    Args:
        hashes: `pixel_hash` of each of the N pictures. thumbnail_of: its index -> the bytes of its `grey_thumbnail`.
    """
    # sorted by hash, identical pictures once: whatever follows sees the same input for the same content
    unique, rows, inverse = np.unique(np.asarray(hashes), return_index=True, return_inverse=True)
    if not len(unique):
        return unique

    def thumbnail(node: int) -> np.ndarray:
        return np.frombuffer(thumbnail_of(int(rows[node])), np.uint8).reshape(THUMBNAIL_SIZE, THUMBNAIL_SIZE)

    def is_same(pair: np.ndarray) -> bool:
        first, second, mirrored = pair
        return same_picture(thumbnail(first), thumbnail(second), bool(mirrored))

    found = []
    for view, sure in zip(VIEWS, (SURE_CANDIDATE, np.inf), strict=True):
        descriptors = np.empty((len(unique), DESCRIPTOR_SIZE), np.float32)
        for start in range(0, len(unique), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(unique)))
            descriptors[start : chunk.stop] = spectral_descriptors(
                np.stack([thumbnail(node)[view, view] for node in chunk])
            )
        found.append(candidate_pairs(descriptors, sure))
    pairs = np.unique(np.concatenate(found), axis=0)
    same = []
    with ThreadPoolExecutor() as pool, tqdm(total=len(pairs), desc="Comparing candidates", leave=False) as progress:
        for start in range(0, len(pairs), _CHUNK):  # OpenCV lets go of Python's lock, so threads share the work
            for answer in pool.map(is_same, pairs[start : start + _CHUNK]):
                same.append(answer)
                progress.update()
    edges = pairs[np.array(same, bool)]
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(unique), len(unique)))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return unique[smallest[component]][inverse]


def candidate_pairs(descriptors: np.ndarray, sure: float = np.inf) -> np.ndarray:
    """(N, DESCRIPTOR_SIZE) unit vectors -> (P, 3) int64 rows (first, second, mirrored) with first < second.

    Exact up to 100,000 pictures, in N^2 time. Above that faiss searches inverted lists, in N * sqrt(N).

    Args:
        sure: similarity from which on a neighbour is a candidate even if it does not stand out.
    """
    index = _build_index(descriptors)
    found = [np.empty((0, 3), np.int64)]
    for mirrored in (False, True):
        chunks = range(0, len(descriptors), _CHUNK)
        for start in tqdm(chunks, desc="Searching mirrored copies" if mirrored else "Searching copies", leave=False):
            queries = descriptors[start : start + _CHUNK] * (MIRROR_SIGNS if mirrored else np.float32(1))
            similarities, neighbours = index.search(queries, min(_BACKGROUND_NEIGHBOUR + 1, len(descriptors)))
            wanted = np.clip(similarities[:, -1:] + _MARGIN, _LEAST_SIMILARITY, sure)
            row, column = np.nonzero(similarities[:, : _NEIGHBOURS + 1] >= wanted)
            first, second = row + start, neighbours[row, column]
            pairs = np.stack([np.minimum(first, second), np.maximum(first, second), np.full_like(first, mirrored)], 1)
            # a picture is its own neighbour, and its own mirror image where it is symmetric; -1 is no neighbour
            found.append(pairs[(first != second) & (second >= 0)])
    return np.unique(np.concatenate(found), axis=0)


def _build_index(descriptors: np.ndarray) -> faiss.Index:
    count, dimension = descriptors.shape
    index = faiss.IndexFlatIP(dimension)
    if count > EXACT_SEARCH_LIMIT:
        lists = int(4 * np.sqrt(count))
        index = faiss.IndexIVFFlat(index, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.train(descriptors[:: max(1, count // (64 * lists))])
        index.nprobe = 32
    index.add(descriptors)
    return index
