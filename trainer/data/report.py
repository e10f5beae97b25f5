"""Describe a cleaned set in numbers, from its manifest: counts, groups of duplicates, and how noisy the labels are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from model.configuration_age_gender import RANGE_SETS
from trainer.data.labels import GENDERS, RACES, UNKNOWN, UNKNOWN_RACE
from trainer.data.manifest import face_features
from trainer.data.splits import SPLITS, age_strata
from trainer.evaluation.predictions import Bootstrap, mean_of


AGE_RANGES = RANGE_SETS["FairFace-9"].split(", ")  # those of AGE_STRATA
RACE_ORDER = [*RACES, UNKNOWN_RACE]


def describe_data(manifest: pd.DataFrame) -> dict[str, Any]:
    """All numbers of the data card, ready for JSON; the keys are those of a published report.json."""
    kept, dropped = manifest[manifest["kept"]], manifest[~manifest["kept"]]
    reasons = dropped["reason"].str.split(":").str[0].value_counts()
    decoded = manifest[manifest["pixel_hash"] != ""]
    identical = decoded["pixel_hash"].value_counts()
    group_sizes = decoded["group"].value_counts()
    return {
        "files": len(manifest),
        "kept": len(kept),
        "dropped": len(dropped),
        "reasons": {str(reason): int(count) for reason, count in reasons.items()},
        "has_age_ranges": "age_low" in face_features(manifest),
        "splits": {split: int((kept["split"] == split).sum()) for split in SPLITS},
        "identical_groups": int((identical > 1).sum()),
        "identical_surplus": int((identical - 1).sum()),
        "copy_groups": int((group_sizes > 1).sum()),
        "copy_pictures": int(group_sizes[group_sizes > 1].sum()),
        "group_sizes": {
            int(size): int(n) for size, n in group_sizes[group_sizes > 1].value_counts().sort_index().items()
        },
        "cells": count_cells(kept),
        "unknown": {
            "age": int((kept["age_low"] == UNKNOWN).sum()),
            "gender": int((kept["gender"] == UNKNOWN).sum()),
            "race": int((kept["race"] == UNKNOWN_RACE).sum()),
        },
        "by_split": {
            "age range": count_by_split(kept, [[*AGE_RANGES, "unknown"][index] for index in age_strata(kept)]),
            "gender": count_by_split(kept, gender_names(kept)),
            "race": count_by_split(kept, kept["race"]),
        },
        "label_noise": {
            name: describe_noise(manifest, identical_only)
            for name, identical_only in (("all", False), ("identical", True))
        },
    }


def gender_names(table: pd.DataFrame) -> pd.Series:
    return table["gender"].map(lambda code: "unknown" if code == UNKNOWN else GENDERS[code])


def count_cells(kept: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each race and gender that occurs: how many pictures of each age range."""
    genders, ranges = gender_names(kept), age_strata(kept)
    rows = []
    for race in RACE_ORDER:
        for gender in (*GENDERS, "unknown"):
            chosen = ((kept["race"] == race) & (genders == gender)).to_numpy()
            if chosen.any():
                counts = np.bincount(ranges[chosen & (ranges >= 0)], minlength=len(AGE_RANGES))
                rows.append({"race": race, "gender": gender, "total": int(chosen.sum()), "counts": counts.tolist()})
    return rows


def count_by_split(kept: pd.DataFrame, values: Sequence[str]) -> dict[str, dict[str, int]]:
    """{value: {split: pictures}} for the values that occur, in the order of AGE_RANGES, GENDERS or RACES."""
    table = pd.crosstab(np.asarray(values), kept["split"].to_numpy()).reindex(columns=SPLITS, fill_value=0)
    order = [*AGE_RANGES, *GENDERS, *RACE_ORDER]
    return {
        value: {split: int(table.at[value, split]) for split in SPLITS}
        for value in sorted(table.index, key=order.index)
    }


@dataclass(frozen=True)
class LabelNoise:
    """How far the labels of duplicates differ. Each score is (value, low, high) with a 95 % interval over groups.

    Attributes:
        groups, pictures: how many groups of duplicates are compared, and their pictures.
        age_difference_years: mean of |a - b| over pairs of duplicates, each group counting once.
        same_age: fraction of the pairs with the same age.
        gender_disagreement: fraction of the pairs with different genders.
    """

    groups: int
    pictures: int
    age_difference_years: tuple[float, float, float]
    same_age: tuple[float, float, float]
    gender_disagreement: tuple[float, float, float]

    @property
    def lowest_age_mae(self) -> tuple[float, float]:
        """Bounds in years of the mean absolute error that a perfect estimator of the true age has on these labels.

        With labels = truth + independent noise e of mean 0, a difference is e - e', and for any distribution of e
        E|e - e'| / 2 <= E|e| <= E|e - e'|. For Gaussian noise E|e| is E|e - e'| / sqrt(2), in between.
        """
        return self.age_difference_years[0] / 2, self.age_difference_years[0]

    @property
    def gaussian_age_mae(self) -> float:
        """That error in years if the noise is Gaussian."""
        return self.age_difference_years[0] / np.sqrt(2)

    @property
    def highest_gender_accuracy(self) -> float:
        """Of a perfect estimator, if each label is wrong with one probability q: duplicates then differ in 2q(1 - q)."""
        return (1 + np.sqrt(max(0.0, 1 - 2 * self.gender_disagreement[0]))) / 2


def measure_label_noise(manifest: pd.DataFrame, identical_only: bool = False) -> LabelNoise | None:
    """Compare the source's labels within groups of duplicates; None if no group has two labelled pictures.

    Args:
        manifest: as `build_manifest` returns it.
        identical_only: compare pictures with the same pixels instead of near-duplicates.
    """
    key = "pixel_hash" if identical_only else "group"
    known = (manifest[key] != "") & (manifest["source_age"] != UNKNOWN) & (manifest["source_gender"] != UNKNOWN)
    duplicates = manifest[known & manifest[known].duplicated(key, keep=False).reindex(manifest.index, fill_value=False)]
    rows = []
    for _, group in duplicates.groupby(key):
        ages, genders = group["source_age"].to_numpy(), group["source_gender"].to_numpy()
        pairs = list(combinations(range(len(group)), 2))
        differences = np.array([abs(int(ages[i]) - int(ages[j])) for i, j in pairs])
        unlike = np.array([genders[i] != genders[j] for i, j in pairs])
        rows.append((differences.mean(), (differences == 0).mean(), unlike.mean()))
    if not rows:
        return None
    values = np.array(rows)
    bootstrap = Bootstrap(np.arange(len(values)))

    def with_interval(column: np.ndarray) -> tuple[float, float, float]:
        return (float(column.mean()), *bootstrap.interval(mean_of(column)))

    return LabelNoise(len(values), len(duplicates), *(with_interval(column) for column in values.T))


def describe_noise(manifest: pd.DataFrame, identical_only: bool) -> dict[str, Any] | None:
    """`measure_label_noise` with its bounds, ready for JSON."""
    noise = measure_label_noise(manifest, identical_only)
    if noise is None:
        return None
    return asdict(noise) | {
        "lowest_age_mae": noise.lowest_age_mae,
        "gaussian_age_mae": float(noise.gaussian_age_mae),
        "highest_gender_accuracy": float(noise.highest_gender_accuracy),
    }
