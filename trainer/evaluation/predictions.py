"""Predictions beside their labels, and how a score over some of the faces gets its interval and count."""

from dataclasses import dataclass, fields

import numpy as np
from datasets import Dataset
from scipy.stats import binomtest

from model.configuration_age_gender import AgeGenderConfig, age_range_label
from model.decoding_age_gender import estimate_age, softmax
from model.losses_age_gender import IGNORE_INDEX
from model_card.metrics_text import Score
from trainer.evaluation.bootstrap import Bootstrap, Statistic, mean_of
from trainer.metrics import exact_ages


MINIMUM_FOR_INTERVAL = 10  # faces; a bootstrap interval of the mean of fewer says nothing


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


def age_bounds(faces: Dataset) -> np.ndarray:
    """(N, 2) inclusive years of each face's age: the exact age twice where it is known, -100 where nothing is."""
    ages = np.array(faces["age"])
    low, high = (
        np.where(ages == IGNORE_INDEX, np.array(faces[column]), ages) if column in faces.column_names else ages
        for column in ("age_low", "age_high")
    )
    return np.stack([low, high], axis=1)


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
