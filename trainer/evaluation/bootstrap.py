"""Bootstrap intervals: each score is a function of how often each face was drawn, evaluated for many draws at once."""

from collections.abc import Callable
from typing import Literal

import numpy as np


Statistic = Callable[[np.ndarray], np.ndarray]  # (draws, N) weights -> (draws,) scores, nan where undefined
MAX_CELLS = 4_000_000  # weights in one chunk: bounds the memory on large sets


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


def calibration_error_of(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> Statistic:
    """Expected calibration error over equal-width bins of confidence (Guo et al., 2017)."""
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    in_bin = bin_of[:, None] == np.arange(bins)  # (N, bins)
    gap = in_bin * (correct.astype(np.float64) - confidence)[:, None]

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.abs(weights @ gap).sum(axis=1) / weights.sum(axis=1)

    return statistic
