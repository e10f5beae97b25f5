"""Scores by race, gender and age and every combination of them, and the gap between the best and the worst group."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from model.configuration_age_gender import MAX_AGE, age_range_label, parse_age_ranges
from model.losses_age_gender import IGNORE_INDEX
from model_card.metrics_text import Score
from trainer.data.labels import UNKNOWN_RACE
from trainer.evaluation.predictions import Evaluation, ratio_of
from trainer.metrics import range_indices


CELL_AGES = "0-19, 20-39, 40-59, 60+"  # coarse, so that each race x gender x age cell of a usual test split has faces
MINIMUM_SUPPORT = 30  # faces; a smaller cell is not compared


def score_groups(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row per group: `by` which factors, its race, gender and age, `n`, `age_mae` and `gender_accuracy`.

    Empty groups are left out. Faces whose race, gender or age is unknown belong to no group by that factor.
    """
    factors = _factors(evaluation)
    rows = []
    for by in (names for size in (1, 2, 3) for names in combinations(factors, size)):
        for values in product(*(factors[name][0] for name in by)):
            group = dict(zip(by, values, strict=True))
            members = _members(factors, group)
            if members.any():
                rows.append(
                    {
                        "by": " x ".join(by),
                        **group,
                        "n": int(members.sum()),
                        "age_mae": evaluation.mean(np.abs(evaluation.error), members & evaluation.has_age),
                        "gender_accuracy": evaluation.proportion(
                            evaluation.gender_correct, members & evaluation.has_gender
                        ),
                    }
                )
    return rows


def worst_groups(evaluation: Evaluation, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """For age error and gender accuracy the worst and the best cell of `score_groups`, and the gap between them.

    Race x gender x age cells of at least `MINIMUM_SUPPORT` faces are compared; where races are unknown, gender x age.
    The interval is that of the difference between these two cells. They are picked as the extremes, so the gap is biased
    upwards: on other faces it tends to be smaller.
    """
    by = "race x gender x age" if any(group["by"] == "race x gender x age" for group in groups) else "gender x age"
    factors, names = _factors(evaluation), by.split(" x ")
    report: dict[str, Any] = {"by": by, "minimum_support": MINIMUM_SUPPORT}
    for metric, is_better, values, known in (
        ("age_mae", -1, np.abs(evaluation.error), evaluation.has_age),
        ("gender_accuracy", 1, evaluation.gender_correct.astype(float), evaluation.has_gender),
    ):
        cells = [group for group in groups if group["by"] == by and group[metric]["n"] >= MINIMUM_SUPPORT]
        cells.sort(key=lambda group: is_better * group[metric]["value"])
        if len(cells) > 1:
            worst, best = ({name: cell[name] for name in names} for cell in (cells[0], cells[-1]))
            report[metric] = {
                "worst": worst | cells[0][metric],
                "best": best | cells[-1][metric],
                "gap": _gap(evaluation, values, *(_members(factors, cell) & known for cell in (worst, best))),
                "cells": len(cells),
            }
    return report


def _gap(evaluation: Evaluation, values: np.ndarray, one: np.ndarray, other: np.ndarray) -> Score:
    """Absolute difference of the means of (N,) values over the faces of two (N,) masks."""
    faces = one | other
    means = [ratio_of(values[faces] * mask[faces], 1.0 * mask[faces]) for mask in (one, other)]
    sign = 1 if values[one].mean() >= values[other].mean() else -1

    def statistic(weights: np.ndarray) -> np.ndarray:
        return sign * (means[0](weights) - means[1](weights))

    return evaluation.score(statistic, faces)


def _members(factors: dict[str, tuple[Sequence[str], np.ndarray]], group: dict[str, str]) -> np.ndarray:
    """(N,) mask of the faces that have the value which `group` names for each of its factors."""
    return np.logical_and.reduce([factors[name][1] == value for name, value in group.items()])


def _factors(evaluation: Evaluation) -> dict[str, tuple[Sequence[str], np.ndarray]]:
    """For race, gender and age: the names of the groups in order, and the (N,) group of each face, or "unknown"."""
    predictions, config = evaluation.predictions, evaluation.config
    ranges = parse_age_ranges(CELL_AGES, max(MAX_AGE, config.max_age))
    ranges = [[low, min(high, config.max_age)] for low, high in ranges if low <= config.max_age]
    age_names = [age_range_label(low, high, config.max_age) for low, high in ranges]
    return {
        "race": (sorted(set(predictions.races.tolist()) - {UNKNOWN_RACE}), predictions.races),
        "gender": (config.gender_names, _names(predictions.gender_labels, config.gender_names)),
        "age": (age_names, _names(range_indices(predictions.age_labels, ranges), age_names)),
    }


def _names(indices: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return np.array([*names, "unknown"])[np.where(indices == IGNORE_INDEX, -1, indices)]
