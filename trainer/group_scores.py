"""Scores by race, gender and age and every combination of them, and the gap between the best and the worst group."""

from itertools import combinations, product
from typing import Any

import numpy as np

from model.configuration_age_gender import age_range_label, parse_age_ranges
from model.modeling_age_gender import IGNORE_INDEX
from trainer.evaluation import Evaluation, rounded
from trainer.metrics import range_indices


CELL_AGES = "0-19, 20-39, 40-59, 60+"  # coarse, so that a race x gender x age cell of a usual test split has faces
MINIMUM_SUPPORT = 30  # faces a group needs before it can be called the worst
UNKNOWN = "unknown"


def score_groups(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row a group: what it is `by`, its race, gender and age, `n`, `age_mae` and `gender_accuracy`.

    A group without a face is left out, and faces whose race, gender or age is unknown are in no group by it.
    """
    factors = _factors(evaluation)
    rows = []
    for by in (names for size in (1, 2, 3) for names in combinations(factors, size)):
        for values in product(*(factors[name][0] for name in by)):
            members = np.logical_and.reduce([factors[name][1] == value for name, value in zip(by, values, strict=True)])
            if members.any():
                rows.append(
                    {
                        "by": " x ".join(by),
                        **dict(zip(by, values, strict=True)),
                        "n": int(members.sum()),
                        "age_mae": evaluation.mean(np.abs(evaluation.error), members & evaluation.has_age),
                        "gender_accuracy": evaluation.share(evaluation.gender_correct, members & evaluation.has_gender),
                    }
                )
    return rows


def worst_groups(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """For age error and gender accuracy the worst and the best cell, and the gap between them.

    Race x gender x age cells of at least `MINIMUM_SUPPORT` faces are compared; where races are unknown, gender x age.
    """
    by = "race x gender x age" if any(group["by"] == "race x gender x age" for group in groups) else "gender x age"
    report: dict[str, Any] = {"by": by, "minimum_support": MINIMUM_SUPPORT}
    for metric, is_better in (("age_mae", -1), ("gender_accuracy", 1)):
        cells = [group for group in groups if group["by"] == by and group[metric]["n"] >= MINIMUM_SUPPORT]
        cells.sort(key=lambda group: is_better * group[metric]["value"])
        if len(cells) > 1:
            worst, best = cells[0], cells[-1]
            report[metric] = {
                "worst": {name: worst[name] for name in by.split(" x ")} | worst[metric],
                "best": {name: best[name] for name in by.split(" x ")} | best[metric],
                "gap": rounded(abs(worst[metric]["value"] - best[metric]["value"])),
                "cells": len(cells),
            }
    return report


def _factors(evaluation: Evaluation) -> dict[str, tuple[list[str], np.ndarray]]:
    """For race, gender and age: the names of the groups in order, and the (N,) name of each face's, or "unknown"."""
    predictions, config = evaluation.predictions, evaluation.config
    ranges = parse_age_ranges(CELL_AGES, config.max_age)
    age_names = [age_range_label(low, high, config.max_age) for low, high in ranges]
    return {
        "race": (sorted(set(predictions.races.tolist()) - {UNKNOWN}), predictions.races),
        "gender": (config.gender_names, _names(predictions.gender_labels, config.gender_names)),
        "age": (age_names, _names(range_indices(predictions.age_labels, ranges), age_names)),
    }


def _names(indices: np.ndarray, names: list[str]) -> np.ndarray:
    return np.array([*names, UNKNOWN])[np.where(indices == IGNORE_INDEX, -1, indices)]
