"""Stratified splits that depend on content and a seed alone, never on file order or names."""

import hashlib
from collections.abc import Hashable, Sequence
from itertools import groupby

import numpy as np


SPLITS = ("train", "validation", "test")
AGE_STRATA = (3, 10, 20, 30, 40, 50, 60, 70)  # first years of the age ranges that splits are balanced over


def stratum(age_low: int, age_high: int, gender: int) -> tuple[int, int]:
    """The cell of age range and gender that a face is counted in; range -1 is that of unknown ages."""
    middle = (age_low + age_high) / 2
    return (int(np.searchsorted(AGE_STRATA, middle, side="right")) if age_low >= 0 else -1, int(gender))


def shuffle_key(content: str, seed: int) -> str:
    """A pseudo-random sort key: the same on every machine and for every version of every library."""
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def assign_parts(contents: Sequence[str], strata: Sequence[Hashable], shares: Sequence[float], seed: int) -> np.ndarray:
    """(N,) index of the part that each item goes to: each part gets its share of every stratum, within one item.

    The items of a stratum lie at random (by `shuffle_key`) on a line that the parts share out, one step apart and the
    first of them at random within a step: so a part gets its share of many small strata too. A few items more or less
    move only those next to a boundary, so that another edition of a set is split almost alike.

    Args:
        contents: N distinct strings that stand for the items' content.
        strata: N sortable values. shares: of each part; they sum to 1.
    """
    order = sorted(range(len(contents)), key=lambda i: (strata[i], shuffle_key(contents[i], seed)))
    boundaries = np.cumsum(shares)[:-1]
    parts = np.empty(len(contents), np.int64)
    for cell, members in groupby(order, key=lambda i: strata[i]):
        members = list(members)
        start = int(shuffle_key(str(cell), seed)[:8], 16) / 2**32
        places = (np.arange(len(members)) + start) / len(members)
        parts[members] = np.searchsorted(boundaries, places, side="right")
    return parts


def split_names(
    contents: Sequence[str],
    strata: Sequence[Hashable],
    seed: int,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    folds: int | None = None,
    fold: int = 0,
) -> list[str]:
    """The split of each of N items. With `folds`, fold number `fold` is the test split, whatever `test_share` says."""
    if not folds:
        shares = (1 - validation_share - test_share, validation_share, test_share)
        return [SPLITS[part] for part in assign_parts(contents, strata, shares, seed)]
    names = np.full(len(contents), "test", dtype=object)
    (others,) = np.nonzero(assign_parts(contents, strata, [1 / folds] * folds, seed) != fold)
    share = validation_share / (1 - 1 / folds)
    parts = assign_parts([contents[i] for i in others], [strata[i] for i in others], (1 - share, share), seed)
    names[others] = np.array(SPLITS)[parts]
    return names.tolist()
