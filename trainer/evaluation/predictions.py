"""Predictions beside their labels, and how a score over some of the faces gets its interval and count.

Bootstrap intervals: each score is a function of how often each face was drawn, evaluated for many draws at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from datasets import Dataset
from scipy.stats import binomtest

from model.configuration_age_gender import AgeGenderConfig, age_range_label
from model.decoding_age_gender import estimate_age, softmax
from model.losses_age_gender import IGNORE_INDEX
from model_card.metrics_text import Score
from trainer.data.transforms import age_bounds
from trainer.metrics import exact_ages


Statistic = Callable[[np.ndarray], np.ndarray]  # (draws, N) weights -> (draws,) scores, nan where undefined
MAX_CELLS = 4_000_000  # weights in one chunk: bounds the memory on large sets

MINIMUM_FOR_INTERVAL = 10  # faces; a bootstrap interval of the mean of fewer says nothing


class Bootstrap:
    """Percentile intervals from resampled faces.

    Near-duplicates are drawn together (the cluster bootstrap), because they are not independent. With one face per group
    it is the ordinary bootstrap.

    Args:
        groups: (N,) group of each face, any hashable values.
        draws: number of resamples. seed: of the draws.

    Example:
        >>> Bootstrap(np.arange(4), draws=200).interval(mean_of(np.array([1.0, 1.0, 1.0, 1.0])))
        (1.0, 1.0)
    """

    level = 0.95

    def __init__(self, groups: np.ndarray, draws: int = 1000, seed: int = 0):
        _, index = np.unique(groups, return_inverse=True)
        count = index.max() + 1
        rng = np.random.default_rng(seed)
        drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(draws)]
        self.weights = np.array(drawn, dtype=np.uint16)[:, index]  # (draws, N)

    def interval(self, statistic: Statistic, faces: np.ndarray | None = None) -> tuple[float, float]:
        """Low and high end of the central 95 % of `statistic` over the draws; nan where no draw defines it.

        Args:
            faces: (N,) mask; `statistic` then sees the columns of these faces only.
        """
        weights = self.weights if faces is None else self.weights[:, faces]
        chunks = np.array_split(weights, max(1, -(-weights.size // MAX_CELLS)))
        scores = np.concatenate([statistic(chunk.astype(np.float64)) for chunk in chunks])
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            return float("nan"), float("nan")
        low, high = np.quantile(scores, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)


def mean_of(values: np.ndarray) -> Statistic:
    """Mean of (N,) values."""
    return ratio_of(values, np.ones(len(values)))


def ratio_of(numerator: np.ndarray, denominator: np.ndarray) -> Statistic:
    """Sum of (N,) over sum of (N,): precision, recall and F1 of one class have this form."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights @ denominator
        return np.divide(weights @ numerator, total, out=np.full(len(weights), np.nan), where=total > 0)

    return statistic


def median_of(values: np.ndarray) -> Statistic:
    """Median of (N,) values: the mean of the values at which the cumulated weight reaches, and exceeds, one half."""
    order = np.argsort(values)

    def statistic(weights: np.ndarray) -> np.ndarray:
        reached = np.cumsum(weights[:, order], axis=1)
        half = reached[:, -1:] / 2
        return (values[order][(reached >= half).argmax(axis=1)] + values[order][(reached > half).argmax(axis=1)]) / 2

    return statistic


def macro_of(labels: np.ndarray, predictions: np.ndarray, score: Literal["precision", "recall", "f1"]) -> Statistic:
    """Mean of a score over the classes that have labelled faces; (N,) class indices.

    A rare class that a draw misses keeps its score on the whole set. Left out, or counted as 0, it would shift the interval.
    """
    classes = np.unique(labels)
    is_label, is_predicted = (values[:, None] == classes for values in (labels, predictions))  # (N, classes)
    is_hit = is_label & is_predicted

    def by_class(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(draws, N) -> (draws, classes), and how often each class was drawn."""
        hits, labelled, predicted = (weights @ mask for mask in (is_hit, is_label, is_predicted))
        possible = {"precision": predicted, "recall": labelled, "f1": (labelled + predicted) / 2}[score]
        return hits / np.maximum(possible, 1e-12), labelled

    whole, _ = by_class(np.ones((1, len(labels))))

    def statistic(weights: np.ndarray) -> np.ndarray:
        scores, labelled = by_class(weights)
        return np.where(labelled > 0, scores, whole).mean(axis=1)

    return statistic


def auc_of(is_positive: np.ndarray, scores: np.ndarray) -> Statistic:
    """Area under the ROC curve: the weight of (positive, negative) pairs that are ranked correctly, ties counting half."""
    order = np.argsort(scores)
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # first of each run of equal scores
    positive = is_positive[order].astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        weights = weights[:, order]
        positives = np.add.reduceat(weights * positive, starts, axis=1)
        negatives = np.add.reduceat(weights * (1 - positive), starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        won = (positives * below).sum(axis=1)
        return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    return statistic


def calibration_error_of(confidence: np.ndarray, correct: np.ndarray) -> Statistic:
    """Expected calibration error over 15 equal-width bins of confidence (Guo et al., 2017)."""
    bins = 15
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    in_bin = bin_of[:, None] == np.arange(bins)  # (N, bins)
    gap = in_bin * (correct.astype(np.float64) - confidence)[:, None]

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1)

    return statistic


@dataclass
class Predictions:
    """What a model predicted for N labelled faces.

    Attributes:
        age_probs: (N, years). gender_probs: (N, 2).
        age_labels: (N, 2) inclusive years, -100 where unknown.
        gender_labels: (N,), -100 where unknown.
        races: (N,) names or "unknown".
        groups: (N,), equal for near-duplicates.
    """

    age_probs: np.ndarray
    gender_probs: np.ndarray
    age_labels: np.ndarray
    gender_labels: np.ndarray
    races: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.age_probs)

    @classmethod
    def of(cls, age_logits: np.ndarray, gender_logits: np.ndarray, faces: Dataset) -> "Predictions":
        """From (N, years) and (N, 2) logits for the N rows of `faces`.

        Args:
            faces: columns age, gender, race, group and, where ages are known as ranges, age_low and age_high.
        """
        return cls(
            age_probs=softmax(age_logits.astype(np.float64)),
            gender_probs=softmax(gender_logits.astype(np.float64)),
            age_labels=age_bounds(faces),
            gender_labels=np.array(faces["gender"]),
            races=np.array(faces["race"]),
            groups=np.array(faces["group"]),
        )

    def select(self, faces: np.ndarray) -> "Predictions":
        """The faces of an (N,) mask."""
        return Predictions(*(getattr(self, field.name)[faces] for field in fields(self)))


class Evaluation:
    """A set of predictions, what follows from it for each face, and the bootstrap draws that all its scores share.

    Args:
        baseline_age: years that the median baseline predicts for every face; None for the median of these labels.
        draws: bootstrap resamples. seed: of the draws.

    Attributes:
        ages: (N,) whole years, -100 where unknown or known as a range.
        age_years, error: (N,) estimate in years, and estimate minus label.
        has_age, has_gender, gender_correct: (N,) masks.
    """

    def __init__(
        self,
        predictions: Predictions,
        config: AgeGenderConfig,
        *,
        baseline_age: float | None = None,
        draws: int = 1000,
        seed: int = 0,
    ):
        self.predictions, self.config, self.baseline_age = predictions, config, baseline_age
        self.bootstrap = Bootstrap(predictions.groups, draws, seed)
        self.ages = exact_ages(predictions.age_labels)
        self.age_years = estimate_age(predictions.age_probs, config.age_estimate)
        self.error = self.age_years - self.ages
        self.has_age = self.ages != IGNORE_INDEX
        self.has_gender = predictions.gender_labels != IGNORE_INDEX
        self.gender_correct = predictions.gender_probs.argmax(axis=1) == predictions.gender_labels

    def score(self, statistic: Statistic, faces: np.ndarray) -> Score:
        """A statistic over the faces of an (N,) mask, with its bootstrap interval."""
        count = int(faces.sum())
        value = statistic(np.ones((1, count)))[0]
        low, high = self.bootstrap.interval(statistic, faces)
        return {"value": rounded(value), "low": rounded(low), "high": rounded(high), "n": count}

    def mean(self, values: np.ndarray, faces: np.ndarray) -> Score:
        """Mean of (N,) values over the faces of an (N,) mask; without an interval where they are too few."""
        count = int(faces.sum())
        if count < MINIMUM_FOR_INTERVAL:
            return {"value": rounded(values[faces].mean()) if count else None, "low": None, "high": None, "n": count}
        return self.score(mean_of(values[faces].astype(np.float64)), faces)

    def proportion(self, holds: np.ndarray, faces: np.ndarray) -> Score:
        """Fraction of the faces of an (N,) mask for which (N,) `holds`, with Wilson's interval.

        For parts of a test split, which may be small: unlike the bootstrap, Wilson's interval of five out of five does not
        shrink to a point.
        """
        count = int(faces.sum())
        if not count:
            return {"value": None, "low": None, "high": None, "n": 0}
        test = binomtest(int(holds[faces].sum()), count)
        interval = test.proportion_ci(self.bootstrap.level, method="wilson")
        value, low, high = (rounded(fraction) for fraction in (test.statistic, interval.low, interval.high))
        return {"value": value, "low": low, "high": high, "n": count}

    def by_age(self, ranges: list[list[int]]) -> list[tuple[str, np.ndarray]]:
        """(label, (N,) mask of the faces whose exact age lies in the range) for each range that has a face."""
        labels = [age_range_label(low, high, self.config.max_age) for low, high in ranges]
        masks = [(self.ages >= low) & (self.ages <= high) for low, high in ranges]
        return [(label, mask) for label, mask in zip(labels, masks, strict=True) if mask.any()]


def rounded(value: float) -> float | None:
    """To five decimals, more than any test split resolves; None in place of NaN or Inf, which JSON does not have."""
    return round(float(value), 5) + 0.0 if np.isfinite(value) else None  # + 0.0 turns -0.0 into 0.0
