"""Groups of identical and near-identical pictures, mirrored copies included.

Three steps, each cheaper than what it spares the next one:

1. identical: the same decoded pixels have the same SHA-256;
2. candidates: nearest neighbours (faiss) among frequency-weighted cosine transforms of 64x64 grey thumbnails. Weighting by
   frequency keeps what all faces share (oval, eyes, light) from drowning what only copies share, and a mirrored picture
   only changes the sign of the odd horizontal frequencies, so mirrored copies cost a second query and no second index;
3. near-identical: the candidate pair is registered (affine, Evangelidis & Psarakis, "Parametric image alignment using enhanced
   correlation coefficient maximization", PAMI 2008) and compared again, which forgives shifted, scaled and turned crops.

Groups are the connected components of the pairs found.
"""

import hashlib

import cv2
import faiss
import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm


THUMBNAIL_SIZE = 64
CANDIDATE_SIMILARITY = 0.70
DUPLICATE_SIMILARITY = 0.84

_NEIGHBOURS = 16
_EXACT_SEARCH_LIMIT = 100_000  # pictures; above it the search is approximate (inverted lists)
_FREQUENCIES = 20
_FREQUENCY_FLOOR = 3  # below three cycles a picture there is mostly light and the oval of the head
_FREQUENCY_POWER = 1.5
_REGISTRATION_STEPS = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
_MAX_SCALE_CHANGE = 0.25
_MAX_SHIFT = 12  # thumbnail pixels
_BORDER = 6  # thumbnail pixels that the comparison leaves out, since registration moves them in and out of sight

_radius = np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES])
_selected = (_radius >= _FREQUENCY_FLOOR) & (_radius < _FREQUENCIES)
_weights = (_radius[_selected] ** _FREQUENCY_POWER).astype(np.float32)
_mirror_signs = np.where(np.nonzero(_selected)[1] % 2, -1, 1).astype(np.float32)


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of the decoded RGB pixels and their size: equal for the same picture under another name or file header."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def grey_thumbnail(image: Image.Image) -> np.ndarray:
    """(64, 64) uint8: the grey picture, averaged down (or interpolated up) without regard to its aspect."""
    size_wh = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return np.asarray(
        image.convert("L").resize(size_wh, Image.Resampling.BOX if image.width > 64 else Image.Resampling.BILINEAR)
    )


def spectral_descriptors(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) grey thumbnails -> (N, D) float32 unit vectors; the zero vector for a picture without structure."""
    spectra = dctn(thumbnails.astype(np.float32), axes=(-2, -1), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    weighted = spectra[:, _selected] * _weights
    return weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-6)


def candidate_pairs(descriptors: np.ndarray) -> np.ndarray:
    """(N, D) unit vectors -> (P, 3) int64 rows (first, second, mirrored), first < second, at CANDIDATE_SIMILARITY or above.

    Exact up to 100,000 pictures. Above that faiss searches inverted lists, and the cost grows as N * sqrt(N).
    """
    count, dimension = descriptors.shape
    if count < 2:
        return np.empty((0, 3), np.int64)
    index = faiss.IndexFlatIP(dimension)
    if count > _EXACT_SEARCH_LIMIT:
        index = faiss.IndexIVFFlat(index, dimension, int(4 * np.sqrt(count)), faiss.METRIC_INNER_PRODUCT)
        index.train(descriptors[:: max(1, count // (64 * index.nlist))])
        index.nprobe = 32
    index.add(descriptors)
    found = []
    chunks = range(0, count, 8192)
    for mirrored in (0, 1):
        for start in tqdm(chunks, desc="Mirrored copies" if mirrored else "Near copies", unit="chunk", leave=False):
            queries = descriptors[start : start + 8192] * (_mirror_signs if mirrored else np.float32(1))
            similarities, neighbours = index.search(queries, min(_NEIGHBOURS, count))
            rows, columns = np.nonzero(similarities >= CANDIDATE_SIMILARITY)
            first, second = rows + start, neighbours[rows, columns]
            pairs = np.stack(
                [np.minimum(first, second), np.maximum(first, second), np.full(len(rows), mirrored)], axis=1
            )
            found.append(pairs[first != second])
    return np.unique(np.concatenate(found), axis=0).astype(np.int64)


def registered_similarity(first: np.ndarray, second: np.ndarray, mirrored: bool = False) -> float:
    """Similarity in -1..1 of two (64, 64) grey thumbnails after the second is moved onto the first (first mirrored if asked)."""
    first = first.astype(np.float32)
    second = second.astype(np.float32)
    if mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    identity = np.eye(2, 3, dtype=np.float32)
    try:
        _, warp = cv2.findTransformECC(first, second, identity.copy(), cv2.MOTION_AFFINE, _REGISTRATION_STEPS, None, 5)
    except cv2.error:  # no convergence: the pictures have too little in common
        warp = identity
    change = np.abs(warp - identity)
    if change[:, :2].max() > _MAX_SCALE_CHANGE or change[:, 2].max() > _MAX_SHIFT:
        warp = identity
    moved = cv2.warpAffine(
        second, warp, first.shape[::-1], flags=cv2.INTER_LINEAR + cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    inner = slice(_BORDER, THUMBNAIL_SIZE - _BORDER)
    a, b = spectral_descriptors(np.stack([first[inner, inner], moved[inner, inner]]))
    return float(a @ b)


def group_duplicates(hashes: list[str], thumbnails: list[bytes] | np.ndarray) -> np.ndarray:
    """One group name per picture: the smallest pixel hash in its group, so it depends on content and not on order.

    Args:
        hashes: `pixel_hash` of each of the N pictures.
        thumbnails: N `grey_thumbnail`s, as their bytes or as an (N, 64, 64) uint8 array.
    """
    unique, first_rows, inverse = np.unique(np.asarray(hashes), return_index=True, return_inverse=True)

    def thumbnail(node: int) -> np.ndarray:
        return np.frombuffer(thumbnails[int(first_rows[node])], np.uint8).reshape(THUMBNAIL_SIZE, THUMBNAIL_SIZE)

    descriptors = np.concatenate(
        [np.empty((0, len(_weights)), np.float32)]
        + [
            spectral_descriptors(np.stack([thumbnail(n) for n in range(start, min(start + 4096, len(unique)))]))
            for start in range(0, len(unique), 4096)
        ]
    )
    pairs = candidate_pairs(descriptors)
    same = [
        registered_similarity(thumbnail(first), thumbnail(second), bool(mirrored)) >= DUPLICATE_SIMILARITY
        for first, second, mirrored in tqdm(pairs, desc="Comparing candidates", unit="pair", leave=False)
    ]
    edges = pairs[np.array(same, bool)]
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(unique), len(unique)))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(
        component, return_index=True
    )  # nodes are sorted by hash: the first of a component is its smallest
    return unique[smallest[component]][inverse]
