"""What a manifest says in numbers: what was kept, what was removed and why, who is in it, how noisy its labels are."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from trainer.data_card.label_noise import measure_label_noise
from trainer.labels import GENDERS, RACES, UNKNOWN, UNKNOWN_RACE
from trainer.manifest import face_features
from trainer.splits import AGE_STRATA, SPLITS


AGE_RANGES = [f"{low}-{high - 1}" for low, high in zip((0, *AGE_STRATA[:-1]), AGE_STRATA, strict=True)] + [
    f"{AGE_STRATA[-1]}+"
]
RACE_ORDER = [*RACES, UNKNOWN_RACE]


def age_range_index(table: pd.DataFrame) -> np.ndarray:
    """(N,) index into AGE_RANGES of each row's age, or of the middle of its age range; -1 where unknown."""
    middle = (table["age_low"].to_numpy() + table["age_high"].to_numpy()) / 2
    return np.where(table["age_low"] == UNKNOWN, -1, np.searchsorted(AGE_STRATA, middle, side="right"))


def describe_data(manifest: pd.DataFrame) -> dict[str, Any]:
    """All figures of the data card, ready for JSON."""
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
            "age range": count_by_split(kept, [[*AGE_RANGES, "unknown"][index] for index in age_range_index(kept)]),
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
    genders, ranges = gender_names(kept), age_range_index(kept)
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


def describe_noise(manifest: pd.DataFrame, identical_only: bool) -> dict[str, Any] | None:
    noise = measure_label_noise(manifest, identical_only)
    if noise is None:
        return None
    return asdict(noise) | {
        "lowest_age_mae": noise.lowest_age_mae,
        "gaussian_age_mae": float(noise.gaussian_age_mae),
        "highest_gender_accuracy": float(noise.highest_gender_accuracy),
    }
