"""How far the labels of copies of one picture differ, and what that says about the error that nobody can go below."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from huggingface_hub import DatasetCardData
from jinja2 import Environment, StrictUndefined

from trainer.data.arguments import DataArguments
from trainer.data.labels import GENDERS, RACES, UNKNOWN, UNKNOWN_RACE
from trainer.data.manifest import face_features
from trainer.data.splits import AGE_STRATA, SPLITS
from trainer.evaluation.bootstrap import Bootstrap, mean_of
from trainer.run_record import public_name


@dataclass(frozen=True)
class LabelNoise:
    """Differences between labels of copies; each is (value, low, high) with a 95 % interval over groups.

    `age_difference_years`: mean of |a - b| over pairs of copies, each group counting once.
    `same_age`: share of the pairs with the same age. `gender_disagreement`: share of the pairs with different genders.
    """

    groups: int
    pictures: int
    age_difference_years: tuple[float, float, float]
    same_age: tuple[float, float, float]
    gender_disagreement: tuple[float, float, float]

    @property
    def lowest_age_mae(self) -> tuple[float, float]:
        """Bounds in years of the MAE that a perfect estimator of the true age would still have against these labels.

        With labels = truth + independent noise e of mean 0, a difference is e - e', and for any distribution of e
        E|e - e'| / 2 <= E|e| <= E|e - e'|. For Gaussian noise E|e| is E|e - e'| / sqrt(2), in between.
        """
        return self.age_difference_years[0] / 2, self.age_difference_years[0]

    @property
    def gaussian_age_mae(self) -> float:
        return self.age_difference_years[0] / np.sqrt(2)

    @property
    def highest_gender_accuracy(self) -> float:
        """Of a perfect estimator, if each label is wrong with one probability q: two copies then differ in 2q(1 - q)."""
        return (1 + np.sqrt(max(0.0, 1 - 2 * self.gender_disagreement[0]))) / 2


def measure_label_noise(manifest: pd.DataFrame, identical_only: bool = False) -> LabelNoise | None:
    """Compare the source's labels within groups of decodable, labelled pictures; None where no group has two.

    Args:
        identical_only: groups of pictures with the same pixels, instead of near-identical ones.
    """
    key = "pixel_hash" if identical_only else "group"
    known = (manifest[key] != "") & (manifest["source_age"] != UNKNOWN) & (manifest["source_gender"] != UNKNOWN)
    copies = manifest[known & manifest[known].duplicated(key, keep=False).reindex(manifest.index, fill_value=False)]
    rows = []
    for _, group in copies.groupby(key):
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

    return LabelNoise(len(values), len(copies), *(with_interval(column) for column in values.T))


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


TEMPLATE = Path(__file__).with_name("card_template.md")
CAPTIONS = {"ages": "Ages by gender", "races_by_age": "Race by age range"}
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
_PLACES = ("cache_dir", "num_proc", "streaming")  # arguments that do not change the result


def render_data_card(
    report: dict[str, Any], figures: list[str], data_args: DataArguments, seed: int, repo_id: str | None
) -> str:
    """README.md of the prepared set.

    Args:
        report: of `trainer.data.card.describe_data`. figures: names of the PNG files in `figures/`.
        repo_id: user/dataset on the Hub, if it goes there.
    """
    source = public_name(data_args.dataset)
    is_utkface = "utkface" in source.lower()
    card_data = DatasetCardData(
        pretty_name=f"{source}, cleaned and split without leaks",
        task_categories=["image-classification"],
        license="other",
        size_categories=[next(name for limit, name in _SIZES if report["kept"] < limit)],
        tags=["age-estimation", "gender", "faces"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in SPLITS],
            }
        ],
    )
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["interval"] = lambda score, form: "{} [{}, {}]".format(*map(form.format, score))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=card_data.to_yaml(),
        title="UTKFace" if is_utkface else source,
        source=source,
        source_is_utkface=is_utkface,
        repo_id=repo_id,
        report=report,
        figures=figures,
        captions=CAPTIONS,
        aligned=data_args.align,
        split_by=data_args.split_by,
        max_age_spread=data_args.max_age_spread,
        split_rule=describe_splits(data_args, seed),
        splits=SPLITS,
        age_ranges=AGE_RANGES,
        command=describe_command(data_args, seed),
    )


def describe_splits(data_args: DataArguments, seed: int) -> str:
    if data_args.manifest:
        return f"Taken from `{Path(data_args.manifest).name}`."
    if data_args.folds:
        parts = (
            f"Fold {data_args.fold} of {data_args.folds} (from 0) is test, {data_args.validation_share:.0%} of all, from "
            "the other folds, are validation"
        )
    else:
        parts = f"{data_args.validation_share:.0%} validation, {data_args.test_share:.0%} test"
    return (
        f"{parts}, balanced over age range and gender, and decided by the pictures' content and the seed {seed} alone: "
        "neither file names nor their order matter."
    )


def describe_command(data_args: DataArguments, seed: int) -> str:
    """The command that prepares the same set, without this machine's paths."""
    changed = {
        field.name: getattr(data_args, field.name)
        for field in fields(data_args)
        if field.name not in ("dataset", *_PLACES) and getattr(data_args, field.name) != field.default
    }
    if data_args.manifest:
        changed["manifest"] = Path(data_args.manifest).name
    options = "".join(f" --{name} {value!r}" for name, value in changed.items())
    return f"python -m scripts.prepare_data --dataset {public_name(data_args.dataset)} --seed {seed}{options}"
