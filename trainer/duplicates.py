"""Groups of identical and near-identical pictures, mirrored copies included.

Three steps, each of which spares the next one work:

1. identical: decoded pixels with the same SHA-256;
2. candidates: nearest neighbours (faiss) by spectral descriptors of the whole picture and of its centre, as they are and
   mirrored, that stand out from the farther neighbours. Any two frontal faces are alike: how much more than the next
   ones tells copies apart, where an absolute threshold would find half of them among the same number of candidates;
3. near-identical: candidates whose thumbnails `trainer.same_picture` recognises as one picture.

Groups are the connected components of the pairs found.

Measured on 21,531 UTKFace pictures by looking at pairs: of 117 drawn from the pairs that are alike as they are (746, at a
similarity of 0.8 or above), all show one photograph, re-encoded, relit or blurred. Of the 215 less alike, 172 show one
photograph in other crops, some 40 another photograph of the same person, and 3 two people. Of 61 further copies that an
exhaustive search by other means turned up (difference hashes, then SIFT at full size), 56 are found.
`scripts.check_splits` looks for what is left.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm

from trainer.same_picture import (
    DESCRIPTOR_SIZE,
    MIRROR_SIGNS,
    THUMBNAIL_SIZE,
    same_picture,
    spectral_descriptors,
)


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
