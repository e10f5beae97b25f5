"""What finding duplicates costs, and how it grows: seconds and memory for parts of a set, and for larger ones by it.

    OMP_NUM_THREADS=1 taskset -c 0 python -m scripts.benchmark_duplicates --dataset UTKFace.tar.gz FairFace.tar.gz

The sizes up to that of the sets are real pictures. `--beyond` times the search alone on more: descriptors of the sets
with noise, as many as asked for. Processor seconds are counted, so that whatever else runs matters little.
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from datasets import disable_progress_bars

from trainer.cleaning import fingerprint_pictures
from trainer.data import DataArguments, read_pictures
from trainer.duplicates import candidate_pairs, group_duplicates
from trainer.same_picture import THUMBNAIL_SIZE, spectral_descriptors


def timed(function: Callable, *args):
    start = time.process_time()
    result = function(*args)
    return time.process_time() - start, result


def read_thumbnails(datasets: list[str], cache_dir: str | None) -> tuple[list[str], list[bytes]]:
    hashes, thumbnails = [], []
    for dataset in datasets:
        args = DataArguments(dataset=dataset, cache_dir=cache_dir)
        seconds, fingerprints = timed(fingerprint_pictures, read_pictures(args))
        print(f"{dataset}: {len(fingerprints):,} pictures, decoded and hashed in {seconds:.0f} s (0 where cached)")
        decoded = [i for i, digest in enumerate(fingerprints["pixel_hash"]) if digest]
        hashes += fingerprints.select(decoded)["pixel_hash"][:]
        thumbnails += fingerprints.select(decoded)["thumbnail"][:]
    return hashes, thumbnails


def noisy_descriptors(thumbnails: list[bytes], count: int) -> np.ndarray:
    """(count, D) unit vectors around those of random thumbnails, too far from each other to be taken for copies."""
    random = np.random.default_rng(0)
    rows = random.integers(len(thumbnails), size=count)
    descriptors = []
    for start in range(0, count, 8192):
        pictures = [np.frombuffer(thumbnails[row], np.uint8) for row in rows[start : start + 8192]]
        chunk = spectral_descriptors(np.stack(pictures).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        chunk = chunk + random.normal(0, 1 / np.sqrt(chunk.shape[1]), chunk.shape).astype(np.float32)
        descriptors.append(chunk / np.linalg.norm(chunk, axis=1, keepdims=True))
    return np.concatenate(descriptors)


def peak_memory_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", required=True, help="folders, archives or Hub ids")
    parser.add_argument("--beyond", nargs="*", type=int, default=[], help="sizes to time the search alone for")
    parser.add_argument("--cache_dir", help="where `datasets` keeps what it has read")
    args = parser.parse_args()
    disable_progress_bars()
    hashes, thumbnails = read_thumbnails(args.dataset, args.cache_dir)
    order = np.random.default_rng(0).permutation(len(hashes))
    sizes = [len(hashes) // part for part in (8, 4, 2, 1)]
    seconds = []
    for size in sizes:
        rows = order[:size]
        spent, groups = timed(group_duplicates, [hashes[row] for row in rows], [thumbnails[row] for row in rows])
        seconds.append(spent)
        print(
            f"{size:10,} pictures: {spent:7.1f} s, {1000 * spent / size:.2f} ms a picture, "
            f"{size - len(set(groups)):,} copies, peak memory {peak_memory_mb():,} MB"
        )
    growth = np.polyfit(np.log(sizes[1:]), np.log(seconds[1:]), 1)[0]
    print(f"The time grows as the number of pictures to the power of {growth:.2f}.")
    for size in (24_000, 240_000, 2_400_000):
        print(f"{size:10,} pictures: {seconds[-1] * (size / sizes[-1]) ** growth / 60:.0f} min by that growth")
    for size in args.beyond:
        descriptors = noisy_descriptors(thumbnails, size)
        spent, pairs = timed(candidate_pairs, descriptors)
        print(
            f"{size:10,} descriptors: search of one view {spent:7.1f} s, {len(pairs):,} pairs, "
            f"peak memory {peak_memory_mb():,} MB"
        )


if __name__ == "__main__":
    main()
