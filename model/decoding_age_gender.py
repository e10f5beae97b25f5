"""Decode logits, as NumPy arrays: probabilities, an age in years, an age interval, age ranges, gender."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .configuration_age_gender import AgeGenderConfig, age_range_label


UNSURE = "unsure"


def decode_predictions(
    age_logits: np.ndarray,
    gender_logits: np.ndarray,
    config: AgeGenderConfig,
    age_ranges: Sequence[Sequence[int]],
    return_years: bool = False,
) -> list[dict[str, Any]]:
    """(N, years) and (N, genders) logits -> N dicts: the fields `age` to `genders` of the pipeline's answer.

    Args:
        config: what the logits are decoded by: gender names, thresholds and calibration.
        return_years: add `year_probabilities`.
    """
    year_probs, gender_probs = softmax(age_logits), softmax(gender_logits)
    ages, intervals = estimate_age(year_probs, config.age_estimate), age_interval(year_probs, config.interval_mass)
    ranges = age_range_fields(year_probs, age_ranges, config.max_age)
    predictions = []
    for index in range(len(year_probs)):
        best_gender = int(gender_probs[index].argmax())
        is_confident = gender_probs[index, best_gender] >= config.gender_threshold
        prediction: dict[str, Any] = {
            "age": float(ages[index]),
            "age_interval": intervals[index].tolist(),
            **ranges[index],
            "gender": config.gender_names[best_gender] if is_confident else UNSURE,
            "genders": dict(zip(config.gender_names, gender_probs[index].tolist(), strict=True)),
        }
        if return_years:
            prediction["year_probabilities"] = year_probs[index].tolist()
        predictions.append(prediction)
    return predictions


def age_range_fields(age_probs: np.ndarray, age_ranges: Sequence[Sequence[int]], max_age: int) -> list[dict[str, Any]]:
    """(N, years) probabilities -> N dicts: `age_range`, the most probable one, and `age_ranges`, {range: probability}."""
    labels = [age_range_label(low, high, max_age) for low, high in age_ranges]
    return [
        {"age_range": labels[int(probs.argmax())], "age_ranges": dict(zip(labels, probs.tolist(), strict=True))}
        for probs in range_probabilities(age_probs, age_ranges)
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, classes) -> (N, classes) probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def estimate_age(age_probs: np.ndarray, estimate: Literal["median", "mean"] = "median") -> np.ndarray:
    """(N, years) probabilities -> (N,) years.

    The median minimises the expected absolute error. Each year's probability is spread evenly over that year, so that
    the median changes smoothly and not in steps of a year.
    """
    years = np.arange(age_probs.shape[1])
    if estimate == "mean":
        return age_probs @ years
    year = _quantile_year(age_probs, 0.5)
    rows = np.arange(len(age_probs))
    below = np.cumsum(age_probs, axis=1)[rows, year] - age_probs[rows, year]
    fraction = (0.5 - below) / np.maximum(age_probs[rows, year], 1e-9)
    return np.clip(year - 0.5 + fraction, 0, years[-1])


def age_interval(age_probs: np.ndarray, mass: float) -> np.ndarray:
    """(N, years) probabilities -> (N, 2) inclusive years that contain the central `mass`, 0 to 1, of each distribution.

    A mass of 1 is the whole scale, also where the first and last years have no probability: `conformal_mass` means it so.
    `conformal_mass` chooses `mass`: split conformal prediction on the distribution (Chernozhukov et al.,
    "Distributional conformal prediction", 2021), which gives hard faces wide intervals.
    """
    return np.stack([_quantile_year(age_probs, (1 - mass) / 2), _quantile_year(age_probs, (1 + mass) / 2)], axis=1)


def conformal_mass(age_probs: np.ndarray, age_years: np.ndarray, coverage: float) -> float:
    """The `mass` for which `age_interval` contains a new face's labelled age with probability `coverage`.

    Args:
        age_probs: (N, years) probabilities for faces that were not trained on.
        age_years: (N,) their labels, in whole years.
        coverage: 0 to 1.

    Returns:
        1, the whole scale, where the faces are too few for the coverage: the widest interval that N labels need covers a new
        face with probability N / (N + 1).
    """
    rows = np.arange(len(age_probs))
    up_to = np.cumsum(age_probs, axis=1)[rows, age_years]
    below = up_to - age_probs[rows, age_years]
    # The smallest central mass whose interval contains the label: 0 where the label is the median year.
    needed = np.maximum.reduce([1 - 2 * up_to, 2 * below - 1, np.zeros(len(rows))])
    rank = int(np.ceil((len(rows) + 1) * coverage))
    return float(np.sort(needed)[rank - 1]) if rank <= len(rows) else 1.0


def range_probabilities(age_probs: np.ndarray, age_ranges: Sequence[Sequence[int]]) -> np.ndarray:
    """(N, years) -> (N, ranges) probabilities: each range is the sum of its years."""
    return np.stack([age_probs[:, low : high + 1].sum(axis=1) for low, high in age_ranges], axis=1)


def _quantile_year(age_probs: np.ndarray, quantile: float) -> np.ndarray:
    """(N,) first year up to which at least `quantile` of the probability lies; the last year for 1."""
    if quantile >= 1:
        return np.full(len(age_probs), age_probs.shape[1] - 1)
    # 1 - 1e-6, because a sum of float32 probabilities may stay below 1 and then no year would reach the quantile
    return (np.cumsum(age_probs, axis=1) >= min(quantile, 1 - 1e-6)).argmax(axis=1)
