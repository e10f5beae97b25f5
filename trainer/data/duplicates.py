"""Find groups of pictures that show the same photograph, re-encoded, relit, blurred, shifted, scaled or turned.

A nearest-neighbour search over spectral descriptors of grey thumbnails, as they are and mirrored, proposes pairs. For each
pair the spectra or matching keypoints decide. Groups are the connected components. docs/data.md says how well it works.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2
import faiss
import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm


THUMBNAIL_SIZE = 96
VIEWS = (slice(0, THUMBNAIL_SIZE), slice(20, 76))  # whole and centre: crops of different width share their centre
CHUNK = 8192  # pictures handled at once, which bounds the memory
PAIRS = 256  # compared by one call
# `map`, or one that calls the function on several threads or machines: (function, items) -> results in order.
Spread = Callable[..., Iterator[Any]]

# Decision: two pictures are the same if their spectra are as similar as this, or so many keypoints match.
MIN_SIMILARITY = 0.84
MIN_MATCHES = 14

# Search: which neighbours become candidates.
CLEAR_SIMILARITY = 0.7  # whole pictures as similar as this always do
EXACT_SEARCH_LIMIT = 100_000  # with more pictures, faiss searches only the most likely inverted lists
_MAX_NEIGHBOURS = 8  # of one picture in one view
_BACKGROUND_NEIGHBOUR = 32  # this neighbour is as similar as an unrelated face
_MARGIN = 0.17  # in similarity, by which a candidate must exceed the background
_MIN_CANDIDATE_SIMILARITY = 0.25  # a small set has no background to compare with

# Descriptor: discrete cosine transform, without the frequencies that all faces share.
_FREQUENCIES = 20
_MIN_FREQUENCY = 3  # below three half-waves a picture there is mostly light and the oval of the head
_FREQUENCY_POWER = 1.5
_radius = np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES])
_selected = (_radius >= _MIN_FREQUENCY) & (_radius < _FREQUENCIES)
_weights = (_radius[_selected] ** _FREQUENCY_POWER).astype(np.float32)
DESCRIPTOR_SIZE = len(_weights)
# mirroring a picture negates its odd horizontal frequencies and changes nothing else in its spectrum
MIRROR_SIGNS = np.where(np.nonzero(_selected)[1] % 2, -1, 1).astype(np.float32)

# Keypoints.
_MAX_KEYPOINTS = 150
_MIN_CONTRAST = 0.01  # a quarter of OpenCV's default: small and blurred faces have few strong keypoints
_MAX_DISTANCE_RATIO = 0.85
_MAX_MATCH_ERROR = 1.44  # thumbnail pixels
_MAX_BLACK = 6  # grey level; the black corners that alignment leaves have edges that match on any two pictures
_BLACK_MARGIN = np.ones((7, 7), np.uint8)


def group_duplicates(
    hashes: Sequence[str], thumbnail_of: Callable[[int], bytes | memoryview], spread: Spread | None = None
) -> np.ndarray:
    """(N,) group names: the smallest pixel hash of each group, so that they depend on content and not on order.

    Args:
        hashes: `pixel_hash` of each of the N pictures.
        thumbnail_of: index of a picture -> the bytes of its `grey_thumbnail`.
        spread: shares the search and the comparisons out; default: threads of this process. The groups are the same.
    """
    # identical pictures once, sorted by hash: the search sees the same input for the same content in any order
    unique, rows, inverse = np.unique(np.asarray(hashes), return_index=True, return_inverse=True)
    if not len(unique):
        return unique

    def thumbnail(node: int) -> np.ndarray:
        return np.frombuffer(thumbnail_of(int(rows[node])), np.uint8).reshape(THUMBNAIL_SIZE, THUMBNAIL_SIZE)

    found = []
    for view, clear_similarity in zip(VIEWS, (CLEAR_SIMILARITY, np.inf), strict=True):
        descriptors = np.empty((len(unique), DESCRIPTOR_SIZE), np.float32)
        for start in range(0, len(unique), CHUNK):
            chunk = range(start, min(start + CHUNK, len(unique)))
            descriptors[start : chunk.stop] = spectral_descriptors(
                np.stack([thumbnail(node)[view, view] for node in chunk])
            )
        found.append(candidate_pairs(descriptors, clear_similarity, spread or map))
    pairs = np.unique(np.concatenate(found), axis=0)
    chunks = (
        [
            (thumbnail(first), thumbnail(second), bool(mirrored))
            for first, second, mirrored in pairs[start : start + PAIRS]
        ]
        for start in range(0, len(pairs), PAIRS)
    )
    same: list[bool] = []
    with tqdm(total=len(pairs), desc="Comparing candidates", leave=False) as progress:
        for answers in (spread or _on_threads)(_compare, chunks):
            same += answers
            progress.update(len(answers))
    edges = pairs[np.array(same, bool)]
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(unique), len(unique)))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    return unique[smallest[component]][inverse]


def _on_threads(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """`map` on threads, since OpenCV releases Python's lock; few items are taken ahead."""
    items = iter(items)
    with ThreadPoolExecutor() as pool:
        while taken := list(islice(items, 32)):
            yield from pool.map(function, taken)


def _compare(pairs: list[tuple[np.ndarray, np.ndarray, bool]]) -> list[bool]:
    return [same_picture(*pair) for pair in pairs]


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of size and decoded RGB pixels: equal for one picture under many names or file headers."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def grey_thumbnail(image: Image.Image) -> np.ndarray:
    """(96, 96) uint8: the grey picture, whatever its aspect ratio."""
    size_wh = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return np.asarray(image.convert("L").resize(size_wh, Image.Resampling.BILINEAR))


def candidate_pairs(descriptors: np.ndarray, clear_similarity: float = np.inf, spread: Spread = map) -> np.ndarray:
    """Pairs of pictures that may be the same.

    A neighbour is a candidate if it is clearly more similar than the 32nd, which stands for unrelated faces. The search
    is exact up to 100,000 pictures, in N^2 time; with more, faiss searches inverted lists, in N * sqrt(N) time.

    Args:
        descriptors: (N, DESCRIPTOR_SIZE) unit vectors.
        clear_similarity: from here on a neighbour is a candidate whatever the 32nd.
        spread: calls the search of `CHUNK` pictures each.

    Returns:
        (P, 3) int64 rows (first, second, mirrored) with first < second.
    """
    search = _Search(_build_index(descriptors), descriptors, clear_similarity)
    starts = range(0, len(descriptors), CHUNK)
    chunks = [(start, mirrored) for mirrored in (False, True) for start in starts]
    found = tqdm(spread(search, chunks), total=len(chunks), desc="Searching duplicates", leave=False)
    return np.unique(np.concatenate([np.empty((0, 3), np.int64), *found]), axis=0)


@dataclass(frozen=True, eq=False)
class _Search:
    """Finds the candidates of the pictures from `start` on, in an index that every call shares."""

    index: faiss.Index
    descriptors: np.ndarray
    clear_similarity: float

    def __call__(self, chunk: tuple[int, bool]) -> np.ndarray:
        start, mirrored = chunk
        queries = self.descriptors[start : start + CHUNK] * (MIRROR_SIGNS if mirrored else np.float32(1))
        similarities, neighbours = self.index.search(queries, min(_BACKGROUND_NEIGHBOUR + 1, len(self.descriptors)))
        wanted = np.clip(similarities[:, -1:] + _MARGIN, _MIN_CANDIDATE_SIMILARITY, self.clear_similarity)
        row, column = np.nonzero(similarities[:, : _MAX_NEIGHBOURS + 1] >= wanted)
        first, second = row + start, neighbours[row, column]
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second), np.full_like(first, mirrored)], 1)
        # a picture is its own neighbour, also mirrored where it is symmetric; faiss says -1 for no neighbour
        return pairs[(first != second) & (second >= 0)]


def _build_index(descriptors: np.ndarray) -> faiss.Index:
    count, dimension = descriptors.shape
    exact = faiss.IndexFlatIP(dimension)
    if count <= EXACT_SEARCH_LIMIT:
        exact.add(descriptors)
        return exact
    lists = int(4 * np.sqrt(count))
    inverted = faiss.IndexIVFFlat(exact, dimension, lists, faiss.METRIC_INNER_PRODUCT)
    inverted.train(descriptors[:: max(1, count // (64 * lists))])
    inverted.nprobe = 32
    inverted.add(descriptors)
    return inverted


def spectral_descriptors(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) grey thumbnails -> (N, DESCRIPTOR_SIZE) float32 unit vectors; zeros for a picture without structure.

    Discrete cosine transforms weighted by frequency. What all faces share (oval, eyes, light) lies in the low frequencies
    and would dominate the similarity, since the power of natural pictures falls with the square of the frequency.
    """
    spectra = dctn(thumbnails.astype(np.float32), axes=(-2, -1), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    weighted = spectra[:, _selected] * _weights
    return weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-6)


def same_picture(first: np.ndarray, second: np.ndarray, mirrored: bool = False) -> bool:
    """Whether two (96, 96) uint8 grey thumbnails show one picture; with `mirrored`, the first one is mirrored before.

    Similar spectra are enough: they find duplicates too blurred for keypoints. Otherwise the keypoints decide.
    """
    if mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    first_spectrum, second_spectrum = spectral_descriptors(np.stack([first, second]))
    similar = bool(first_spectrum @ second_spectrum >= MIN_SIMILARITY)
    return similar or keypoint_matches(first, second) >= MIN_MATCHES


def keypoint_matches(first: np.ndarray, second: np.ndarray) -> int:
    """Number of SIFT keypoints of two (96, 96) thumbnails that one similarity transform maps onto each other.

    Keypoints and the ratio test are those of Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004.
    """
    first_points, first_features = _keypoints(first)
    second_points, second_features = _keypoints(second)
    if min(len(first_points), len(second_points)) < MIN_MATCHES:
        return 0
    nearest = cv2.BFMatcher().knnMatch(first_features, second_features, k=2)
    matches = [best for best, other in nearest if best.distance < _MAX_DISTANCE_RATIO * other.distance]
    if len(matches) < MIN_MATCHES:
        return 0
    first_xy = np.array([first_points[match.queryIdx].pt for match in matches], np.float32)
    second_xy = np.array([second_points[match.trainIdx].pt for match in matches], np.float32)
    _, inliers = cv2.estimateAffinePartial2D(first_xy, second_xy, ransacReprojThreshold=_MAX_MATCH_ERROR)
    return 0 if inliers is None else int(inliers.sum())


def _keypoints(thumbnail: np.ndarray) -> tuple[Sequence[cv2.KeyPoint], np.ndarray]:
    lit = cv2.erode((thumbnail > _MAX_BLACK).astype(np.uint8), _BLACK_MARGIN)
    return cv2.SIFT.create(_MAX_KEYPOINTS, contrastThreshold=_MIN_CONTRAST).detectAndCompute(thumbnail, lit)
