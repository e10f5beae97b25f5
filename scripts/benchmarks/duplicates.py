"""What finding duplicates costs, and how the cost grows: seconds and memory, measured and extrapolated.

    OMP_NUM_THREADS=1 python -m scripts.benchmarks.duplicates --dataset UTKFace.tar.gz FairFace.tar.gz --beyond 120000 240000

Sizes up to that of the data sets are measured on real pictures. `--beyond` times the search alone, on descriptors of the
pictures with noise. Comparing candidates grows with the number of pictures. Times are processor seconds, which other
programs hardly change.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from datasets import disable_progress_bars

from scripts.benchmarks.measuring import peak_memory_mib
from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.data.cleaning import fingerprint, fingerprint_pictures
from trainer.data.duplicates import (
    CHUNK,
    CLEAR_SIMILARITY,
    EXACT_SEARCH_LIMIT,
    THUMBNAIL_SIZE,
    VIEWS,
    candidate_pairs,
    group_duplicates,
    spectral_descriptors,
)
from trainer.data.sources import read_pictures


DECODED_SAMPLE = 500
Result = TypeVar("Result")


def timed(function: Callable[..., Result], *args: Any) -> tuple[float, Result]:
    """Processor seconds of a call, and its result."""
    start = time.process_time()
    result = function(*args)
    return time.process_time() - start, result


def read_thumbnails(datasets: list[str], cache_dir: str | None) -> tuple[list[str], list[bytes], float]:
    """Pixel hash and thumbnail of every picture that can be decoded, and the seconds that one takes."""
    hashes, thumbnails, seconds, decoded = [], [], 0.0, 0
    for dataset in datasets:
        pictures = read_pictures(DataArguments(dataset=dataset, cache_dir=cache_dir))
        for row in range(min(DECODED_SAMPLE, len(pictures))):
            seconds += timed(fingerprint, pictures[row]["image"])[0]
            decoded += 1
        fingerprints = fingerprint_pictures(pictures)
        found = [i for i, digest in enumerate(fingerprints["pixel_hash"]) if digest]
        hashes += fingerprints.select(found)["pixel_hash"][:]
        thumbnails += fingerprints.select(found)["thumbnail"][:]
    return hashes, thumbnails, seconds / decoded


def descriptors_of(thumbnails: list[bytes], rows: np.ndarray, view: slice) -> np.ndarray:
    """(len(rows), D), computed in parts, as `group_duplicates` does."""
    parts = []
    for start in range(0, len(rows), CHUNK):
        pictures = [np.frombuffer(thumbnails[row], np.uint8) for row in rows[start : start + CHUNK]]
        stack = np.stack(pictures).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE)
        parts.append(spectral_descriptors(stack[:, view, view]))
    return np.concatenate(parts)


def noisy_descriptors(thumbnails: list[bytes], count: int) -> np.ndarray:
    """(count, D) unit vectors near those of random thumbnails, too far from each other to be duplicates."""
    random = np.random.default_rng(0)
    rows = random.integers(len(thumbnails), size=count)
    descriptors = descriptors_of(thumbnails, rows, VIEWS[0])
    noise = random.standard_normal(descriptors.shape, np.float32) / np.float32(np.sqrt(descriptors.shape[1]))
    descriptors += noise
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", required=True, help="folders, archives or Hub ids")
    parser.add_argument("--beyond", nargs="*", type=int, default=[], help="sizes to time the search for")
    parser.add_argument("--cache_dir", help="cache folder of `datasets`")
    args = parser.parse_args()
    disable_progress_bars()
    hashes, thumbnails, decoding = read_thumbnails(args.dataset, args.cache_dir)
    print(f"decoding and hashing: {1000 * decoding:.2f} ms a picture")
    order = np.random.default_rng(0).permutation(len(hashes))
    grouping = 0.0
    for size in (len(hashes) // 4, len(hashes) // 2, len(hashes)):
        rows = order[:size]
        total, groups = timed(
            group_duplicates, [hashes[row] for row in rows], [thumbnails[row] for row in rows].__getitem__
        )
        search = sum(
            timed(candidate_pairs, descriptors_of(thumbnails, rows, view), clear)[0]
            for view, clear in zip(VIEWS, (CLEAR_SIMILARITY, np.inf), strict=True)
        )
        grouping = (total - search) / size
        print(
            f"{size:10,} pictures: {total:7.1f} s, of which the search {search:7.1f} s, "
            f"{size - len(set(groups)):,} duplicates, peak memory {peak_memory_mib():,.0f} MiB"
        )
    searches = {len(hashes): search}
    for size in args.beyond:
        spent, _ = timed(candidate_pairs, noisy_descriptors(thumbnails, size))
        searches[size] = len(VIEWS) * spent
        print(f"{size:10,} descriptors: search {searches[size]:7.1f} s, peak memory {peak_memory_mib():,.0f} MiB")
    print_extrapolation(searches, decoding, grouping)


def print_extrapolation(searches: dict[int, float], decoding: float, grouping: float) -> None:
    """Processor minutes for larger sets.

    Args:
        searches: {number of pictures: measured seconds of the search}.
        decoding, grouping: seconds a picture of decoding, and of all else but the search.
    """
    indexed = sorted(size for size in searches if size > EXACT_SEARCH_LIMIT)[-2:]
    growth = (
        np.log(searches[indexed[1]] / searches[indexed[0]]) / np.log(indexed[1] / indexed[0]) if indexed[1:] else 1.5
    )
    for size in (24_000, 240_000, 2_400_000):
        measured = min(searches, key=lambda known: abs(np.log(known / size)))
        power = growth if size > EXACT_SEARCH_LIMIT else 2.0
        parts = {
            "decoding": decoding * size,
            "search": searches[measured] * (size / measured) ** power,
            "descriptors and comparing": grouping * size,
        }
        detail = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in parts.items())
        print(
            f"{size:10,} pictures: {sum(parts.values()) / 60:.0f} processor minutes ({detail}; the search from "
            f"{measured:,} by the power of {power:.2f})"
        )


if __name__ == "__main__":
    with errors_explained():
        main()
