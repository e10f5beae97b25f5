"""Assign faces to stratified splits that depend on content and a seed alone, never on file order or names.

Every prepared set is published with its splits: a change of this file changes them all.
"""

import hashlib
from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from trainer.data.arguments import DataArguments
from trainer.data.cleaning import SOURCE_LABELS


SPLITS = ("train", "validation", "test")
AGE_STRATA = (3, 10, 20, 30, 40, 50, 60, 70)  # first year of each age range that the splits are balanced over


def split_names(
    contents: Sequence[str],
    strata: Sequence[Hashable],
    seed: int,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    folds: int | None = None,
    fold: int = 0,
) -> list[str]:
    """The split of each of N items.

    Args:
        contents: N distinct strings that identify the items' content.
        strata: N sortable values; every split gets its fraction of each.
        seed: another seed gives another split.
        validation_fraction: of all items, also with folds.
        test_fraction: of all items; unused with folds, where the fold number `fold` is the test split.
    """
    if not folds:
        fractions = (1 - validation_fraction - test_fraction, validation_fraction, test_fraction)
        return [SPLITS[part] for part in assign_parts(contents, strata, fractions, seed)]
    names = np.full(len(contents), "test", dtype=object)
    others = np.flatnonzero(assign_parts(contents, strata, [1 / folds] * folds, seed) != fold).tolist()
    fraction = validation_fraction / (1 - 1 / folds)
    parts = assign_parts([contents[i] for i in others], [strata[i] for i in others], (1 - fraction, fraction), seed)
    names[others] = np.array(SPLITS)[parts]
    return names.tolist()


def assign_parts(contents: Sequence[str], strata: Sequence[Any], fractions: Sequence[float], seed: int) -> np.ndarray:
    """(N,) index of the part that each item goes to. Each part gets its fraction of every stratum, within one item.

    The items of a stratum lie in random order (by `shuffle_key`) on a line that the parts divide, one step apart, and
    the first of them at a random place within a step. So a part also gets its fraction of many small strata. A few items
    more or fewer move only items next to a boundary, so that two editions of a set are split almost alike.

    Args:
        contents: N distinct strings that identify the items' content.
        strata: N sortable values.
        fractions: of each part; they sum to 1.
    """
    order = sorted(range(len(contents)), key=lambda i: (strata[i], shuffle_key(contents[i], seed)))
    boundaries = np.cumsum(fractions)[:-1]
    parts = np.empty(len(contents), np.int64)
    for cell, members in groupby(order, key=lambda i: strata[i]):
        indices = list(members)
        start = int(shuffle_key(str(cell), seed)[:8], 16) / 2**32
        places = (np.arange(len(indices)) + start) / len(indices)
        parts[indices] = np.searchsorted(boundaries, places, side="right")
    return parts


def shuffle_key(content: str, seed: int) -> str:
    """A pseudo-random sort key that is the same on every machine and in every version of every library."""
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def age_strata(faces: pd.DataFrame) -> np.ndarray:
    """(N,) index into the ranges of AGE_STRATA of each row's age, or of the middle of its age range; -1 where unknown."""
    low, high = faces["age_low"].to_numpy(), faces["age_high"].to_numpy()
    return np.where(low >= 0, np.searchsorted(AGE_STRATA, (low + high) / 2, side="right"), -1)


def split_faces(table: pd.DataFrame, args: DataArguments, seed: int) -> list[str]:
    """The split of each kept row of a manifest (see trainer.data.manifest), stratified by age range and gender."""
    contents = content_keys(table)
    faces = table[table["kept"]]
    strata = list(zip(age_strata(faces).tolist(), faces["gender"].tolist(), strict=True))
    return split_names(
        contents.tolist(), strata, seed, args.validation_fraction, args.test_fraction, args.folds, args.fold
    )


def content_keys(table: pd.DataFrame) -> pd.Series:
    """A distinct name for the content of each kept picture: its group, or its pixel hash where duplicates are kept."""
    faces = table[table["kept"]]
    if faces["group"].is_unique:
        return faces["group"]
    return (table["pixel_hash"] + ":" + duplicate_numbers(table).astype(str))[table["kept"]]


def shuffled_rows(table: pd.DataFrame, split: str, seed: int) -> list[int]:
    """Index of the kept rows of a split, in an order that content and seed decide."""
    keys = content_keys(table)[table["split"] == split].map(lambda content: shuffle_key(content, seed))
    return keys.sort_values().index.tolist()


def duplicate_numbers(table: pd.DataFrame) -> pd.Series:
    """Number the pictures with the same pixels from 0, whatever the order of the rows."""
    return table.sort_values([*SOURCE_LABELS, "file_name"]).groupby("pixel_hash").cumcount().reindex(table.index)
