"""Look for near-identical pictures in two splits, by other means than those that grouped them.

    python -m scripts.benchmarks.check_splits --dataset UTKFace.tar.gz

Every picture of validation and test is compared with every picture of the other splits, as it is and mirrored: by the
correlation of 40x40 grey thumbnails, and by the bits in which their difference hashes (brighter or darker than the
neighbour, at 16x16) differ. Nothing is indexed, projected or sampled. Ends with status 1 if a pair is found.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from datasets import DatasetDict
from tqdm.auto import tqdm
from transformers import HfArgumentParser

from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.splits import SPLITS


_SIZE = 40
_HASH_SIZE = 16
_CHUNK = 512


@dataclass
class CheckArguments:
    """What counts as near-identical."""

    min_correlation: float = field(default=0.97, metadata={"help": "Of 40x40 grey thumbnails: from here on, a copy."})
    max_hash_distance: float = field(
        default=0.1, metadata={"help": "Share of difference-hash bits that differ: up to here, a copy."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the splits."})


@dataclass(frozen=True)
class Leak:
    """Two pictures in different splits that look the same."""

    first: str
    second: str
    mirrored: bool
    correlation: float
    hash_distance: float


def find_leaks(faces: DatasetDict, min_correlation: float = 0.97, max_hash_distance: float = 0.1) -> Iterator[Leak]:
    """Every pair of near-identical pictures of which one lies in validation or test and the other in another split."""
    thumbnails, names, splits = [], [], []
    for split in SPLITS:
        for row in tqdm(faces[split], desc=f"Reading {split}", unit="picture", leave=False):
            grey = np.asarray(row["image"].convert("L"))
            thumbnails.append(cv2.resize(grey, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA))
            names.append(f"{split}: {row['file_name']}")
            splits.append(SPLITS.index(split))
    thumbnails, splits = np.stack(thumbnails), np.array(splits)
    vectors, bits = unit_vectors(thumbnails), difference_bits(thumbnails)
    for mirrored in (False, True):
        shown = thumbnails[:, :, ::-1] if mirrored else thumbnails
        shown_vectors, shown_bits = unit_vectors(shown), difference_bits(shown)
        held_out = np.flatnonzero(splits > 0)
        for start in tqdm(range(0, len(held_out), _CHUNK), desc="Comparing", leave=False):
            rows = held_out[start : start + _CHUNK]
            correlations = shown_vectors[rows] @ vectors.T
            distances = (1 - shown_bits[rows] @ bits.T / bits.shape[1]) / 2  # bits are -1 or 1
            copies = (correlations >= min_correlation) | (distances <= max_hash_distance)
            # a pair of validation and test is seen from both sides: report it once
            copies &= splits < splits[rows][:, None]
            for row, other in np.argwhere(copies):
                yield Leak(
                    names[rows[row]],
                    names[other],
                    mirrored,
                    float(correlations[row, other]),
                    float(distances[row, other]),
                )


def unit_vectors(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, H * W) float32 without mean and of length 1; zeros for a picture of one grey."""
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def difference_bits(thumbnails: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, 512) float32 of -1 and 1: is a cell brighter than its right, and than its lower neighbour?"""
    side = _HASH_SIZE + 1
    small = np.stack(
        [cv2.resize(np.ascontiguousarray(x), (side, side), interpolation=cv2.INTER_AREA) for x in thumbnails]
    )
    right = small[:, :-1, :-1] > small[:, :-1, 1:]
    below = small[:, :-1, :-1] > small[:, 1:, :-1]
    bits = np.concatenate([right.reshape(len(small), -1), below.reshape(len(small), -1)], axis=1)
    return np.where(bits, 1, -1).astype(np.float32)


def main() -> int:
    parser = HfArgumentParser([CheckArguments, DataArguments], allow_abbrev=False, description=__doc__)
    args, data_args = parser.parse_args_into_dataclasses()
    faces = load_faces(data_args, seed=args.seed)
    leaks = list(find_leaks(faces, args.min_correlation, args.max_hash_distance))
    for leak in leaks:
        kind = "mirrored" if leak.mirrored else "as it is"
        print(
            f"{leak.first} and {leak.second} ({kind}): "
            f"correlation {leak.correlation:.3f}, {leak.hash_distance:.1%} of the bits differ"
        )
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in faces.items())
    print(f"{len(leaks)} near-identical pairs across splits ({sizes}).")
    return int(bool(leaks))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
