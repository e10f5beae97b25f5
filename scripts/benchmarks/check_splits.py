"""Look for near-duplicates across splits, by another method than the one that grouped them.

    python -m scripts.benchmarks.check_splits --dataset UTKFace.tar.gz

Compares every picture of validation and test with every picture of the other splits, as it is and flipped: by the
correlation of 40x40 grey thumbnails, and by the bits that differ between their difference hashes (brighter or darker than
the neighbour, at 16x16). Nothing is indexed, projected or sampled. Exits with 1 if a pair is found.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from datasets import DatasetDict
from tqdm.auto import tqdm

from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.rows import load_row_picture
from trainer.data.splits import SPLITS
from trainer.recipe import parse_recipe


_SIZE = 40
_HASH_SIZE = 16
_CHUNK = 512


@dataclass
class CheckArguments:
    """What counts as a near-duplicate."""

    min_correlation: float = field(
        default=0.97, metadata={"help": "Report pairs whose 40x40 grey thumbnails correlate this much."}
    )
    max_hash_distance: float = field(
        default=0.1, metadata={"help": "Report pairs whose difference hashes differ in at most this fraction of bits."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the splits."})


@dataclass(frozen=True)
class Leak:
    """Two pictures in different splits that are near-duplicates."""

    first: str
    second: str
    flipped: bool
    correlation: float
    hash_distance: float


def find_leaks(faces: DatasetDict, min_correlation: float = 0.97, max_hash_distance: float = 0.1) -> Iterator[Leak]:
    """Every pair of near-duplicates of which one is in validation or test and the other in another split."""
    grey_thumbnails: list[np.ndarray] = []
    names: list[str] = []
    split_indices: list[int] = []
    for split in SPLITS:
        for row in tqdm(faces[split], desc=f"Reading {split}", unit="picture", leave=False):
            grey = cv2.cvtColor(load_row_picture(row), cv2.COLOR_RGB2GRAY)
            grey_thumbnails.append(cv2.resize(grey, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA))
            names.append(f"{split}: {row['file_name']}")
            split_indices.append(SPLITS.index(split))
    thumbnails, splits = np.stack(grey_thumbnails), np.array(split_indices)
    vectors, bits = unit_vectors(thumbnails), difference_bits(thumbnails)
    for flipped in (False, True):
        shown = thumbnails[:, :, ::-1] if flipped else thumbnails
        shown_vectors, shown_bits = unit_vectors(shown), difference_bits(shown)
        held_out = np.flatnonzero(splits > 0)
        for start in tqdm(range(0, len(held_out), _CHUNK), desc="Comparing", leave=False):
            rows = held_out[start : start + _CHUNK]
            correlations = shown_vectors[rows] @ vectors.T
            distances = (1 - shown_bits[rows] @ bits.T / bits.shape[1]) / 2  # bits are -1 or 1
            copies = (correlations >= min_correlation) | (distances <= max_hash_distance)
            # validation and test are each compared with the other: report a pair once
            copies &= splits < splits[rows][:, None]
            for row, other in np.argwhere(copies):
                yield Leak(
                    names[rows[row]],
                    names[other],
                    flipped,
                    float(correlations[row, other]),
                    float(distances[row, other]),
                )


def unit_vectors(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, H * W) float32 of mean 0 and length 1; zeros for a picture of one grey."""
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def difference_bits(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, 512) float32 of -1 and 1: whether a cell is brighter than its right and its lower neighbour."""
    side = _HASH_SIZE + 1
    small = np.stack(
        [cv2.resize(np.ascontiguousarray(x), (side, side), interpolation=cv2.INTER_AREA) for x in thumbnails]
    )
    right = small[:, :-1, :-1] > small[:, :-1, 1:]
    below = small[:, :-1, :-1] > small[:, 1:, :-1]
    bits = np.concatenate([right.reshape(len(small), -1), below.reshape(len(small), -1)], axis=1)
    return np.where(bits, 1, -1).astype(np.float32)


def main() -> int:
    args, data_args = parse_recipe(sys.argv[1:], [CheckArguments, DataArguments])
    faces = load_faces(data_args, seed=args.seed)
    leaks = list(find_leaks(faces, args.min_correlation, args.max_hash_distance))
    for leak in leaks:
        kind = "flipped" if leak.flipped else "as it is"
        print(
            f"{leak.first} and {leak.second} ({kind}): "
            f"correlation {leak.correlation:.3f}, {leak.hash_distance:.1%} of the bits differ"
        )
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in faces.items())
    print(f"{len(leaks)} near-duplicate pairs across splits ({sizes}).")
    return int(bool(leaks))


if __name__ == "__main__":
    with errors_explained():
        sys.exit(main())
