"""From predictions and labels to scores of both heads and their calibration, each with its interval and count."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    median_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
)

from model.configuration_age_gender import RANGE_SETS, AgeGenderConfig, age_range_label, parse_age_ranges
from model.decoding_age_gender import age_interval, estimate_age, range_probabilities
from model.modeling_age_gender import IGNORE_INDEX
from trainer.bootstrap import (
    Bootstrap,
    Statistic,
    auc_of,
    calibration_error_of,
    macro_f1_of,
    mean_of,
    median_of,
    ratio_of,
)
from trainer.metrics import AgeGenderMetric, age_range_scores, exact_ages, range_indices


MINIMUM_FOR_INTERVAL = 10  # below, a bootstrap interval of a mean says nothing

Score = dict[str, float | int | None]  # {"value": .., "low": .., "high": .., "n": faces}


@dataclass
class Predictions:
    """What a model said about N labelled faces.

    age_probs: (N, years); gender_probs: (N, 2); age_labels: (N, 2) inclusive years; gender_labels: (N,); races: (N,)
    names or "unknown"; groups: (N,), the same for near-identical pictures. Labels are -100 where unknown.
    """

    age_probs: np.ndarray
    gender_probs: np.ndarray
    age_labels: np.ndarray
    gender_labels: np.ndarray
    races: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.age_probs)

    def select(self, faces: np.ndarray) -> "Predictions":
        """The faces of an (N,) mask."""
        return Predictions(*(getattr(self, field.name)[faces] for field in fields(self)))


class Evaluation:
    """All scores of one set of predictions, each with a bootstrap interval and the number of faces behind it.

    Args:
        baseline_age: the age the majority baseline always answers; None for the median of the labels themselves.
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
        self.headline = AgeGenderMetric(config).compute(
            age_probs=predictions.age_probs,
            gender_probs=predictions.gender_probs,
            age_labels=predictions.age_labels,
            gender_labels=predictions.gender_labels,
        )
        self.gender_correct = predictions.gender_probs.argmax(axis=1) == predictions.gender_labels

    def report(self) -> dict[str, Any]:
        """The part of `metrics.json` that predictions and labels decide. Parts without a labelled face are left out."""
        report = {
            "bootstrap": {"draws": len(self.bootstrap.weights), "level": self.bootstrap.level},
            "age": self.age() if self.has_age.any() else None,
            "age_ranges": self.age_range_sets(),
            "gender": self.gender() if self.has_gender.any() else None,
            "calibration": self.calibration(),
        }
        return {name: part for name, part in report.items() if part}

    def score(self, value: float, statistic: Statistic, faces: np.ndarray) -> Score:
        low, high = self.bootstrap.interval(statistic, faces)
        count = int(faces.sum())
        return {"value": rounded(value), "low": rounded(low), "high": rounded(high), "n": count}

    def mean(self, values: np.ndarray, faces: np.ndarray) -> Score:
        """Mean of (N,) values over the faces of an (N,) mask; no interval where there are too few of them."""
        count = int(faces.sum())
        if count < MINIMUM_FOR_INTERVAL:
            return {"value": rounded(values[faces].mean()) if count else None, "low": None, "high": None, "n": count}
        return self.score(values[faces].mean(), mean_of(values[faces].astype(np.float64)), faces)

    def share(self, holds: np.ndarray, faces: np.ndarray) -> Score:
        """Share of the masked faces for which (N,) `holds`, with Wilson's interval.

        For parts of a test split, which may be small: unlike the bootstrap it does not call five of five a certainty.
        """
        count = int(faces.sum())
        if not count:
            return {"value": None, "low": None, "high": None, "n": 0}
        test = binomtest(int(holds[faces].sum()), count)
        interval = test.proportion_ci(self.bootstrap.level, method="wilson")
        value, low, high = (rounded(share) for share in (test.statistic, interval.low, interval.high))
        return {"value": value, "low": low, "high": high, "n": count}

    def age(self) -> dict[str, Any]:
        faces = self.has_age
        error, size = self.error[faces], np.abs(self.error[faces])
        if self.baseline_age is None:
            baseline_age, source = float(np.median(self.ages[faces])), "median age of these faces"
        else:
            baseline_age, source = self.baseline_age, "median age of the training split"
        return {
            "estimate": self.config.age_estimate,
            "mae": self.score(self.headline["age_mae"], mean_of(size), faces),
            "cs5": self.score(self.headline["age_cs5"], mean_of((size <= 5).astype(float)), faces),
            "median_absolute_error": self.score(
                median_absolute_error(self.ages[faces], self.age_years[faces]), median_of(size), faces
            ),
            "bias": self.score(error.mean(), mean_of(error), faces),
            "baseline": {
                "answer": baseline_age,
                "source": source,
                "mae": self.mean(np.abs(self.ages - baseline_age), faces),
            },
            "by_age": [
                {
                    "age_range": label,
                    "mae": self.mean(np.abs(self.error), inside),
                    "bias": self.mean(self.error, inside),
                }
                for label, inside in self._by_age(self.config.age_ranges)
            ],
        }

    def age_range_sets(self) -> dict[str, Any]:
        """One entry a range set: those in common use, and the model's own if it is none of them."""
        sets = {name: parse_age_ranges(text, self.config.max_age) for name, text in RANGE_SETS.items()}
        if self.config.age_ranges not in sets.values():
            sets["the model's own"] = self.config.age_ranges
        scored = {name: self._age_range_set(ranges) for name, ranges in sets.items()}
        return {name: scores for name, scores in scored.items() if scores}

    def _age_range_set(self, ranges: list[list[int]]) -> dict[str, Any] | None:
        labels = range_indices(self.predictions.age_labels, ranges)
        probs = range_probabilities(self.predictions.age_probs, ranges)
        faces = labels != IGNORE_INDEX
        if not faces.any():
            return None
        values = age_range_scores(probs, labels)
        labels, probs = labels[faces], probs[faces]
        answers = probs.argmax(axis=1)
        names = [age_range_label(low, high, self.config.max_age) for low, high in ranges]
        return {
            "ranges": names,
            "accuracy": self.score(values["age_range_accuracy"], mean_of((labels == answers).astype(float)), faces),
            "within_one": self.score(
                values["age_range_within_one"], mean_of((np.abs(labels - answers) <= 1).astype(float)), faces
            ),
            "macro_f1": self.score(values["age_range_f1"], macro_f1_of(labels, answers), faces),
            **self._macro(labels, answers),
            "baseline": self._baseline(names, labels, faces),
            "classes": self._classes(names, labels, probs, faces),
            "confusion": confusion_matrix(labels, answers, labels=range(len(names))).tolist(),
        }

    def gender(self) -> dict[str, Any]:
        faces, names = self.has_gender, self.config.gender_names
        labels, probs = self.predictions.gender_labels[faces], self.predictions.gender_probs[faces]
        answers, correct = probs.argmax(axis=1), self.gender_correct[faces].astype(float)
        report = {
            "accuracy": self.score(self.headline["gender_accuracy"], mean_of(correct), faces),
            "macro_f1": self.score(self.headline["gender_f1"], macro_f1_of(labels, answers), faces),
            **self._macro(labels, answers),
            "baseline": self._baseline(names, labels, faces),
            "classes": self._classes(names, labels, probs, faces),
            "confusion": confusion_matrix(labels, answers, labels=range(len(names))).tolist(),
            "abstention": self._abstention(),
        }
        if "gender_auc" in self.headline:
            report["auc"] = self.score(self.headline["gender_auc"], auc_of(labels == 1, probs[:, 1]), faces)
        return report

    def _abstention(self) -> dict[str, Any]:
        """What answering only above a confidence brings: the stored threshold, and the risk-coverage curve."""
        confidence, threshold = self.predictions.gender_probs.max(axis=1), self.config.gender_threshold
        curve = []
        for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5):
            lowest = np.quantile(confidence[self.has_gender], 1 - share)
            answered = self.has_gender & (confidence >= lowest)
            curve.append({"answered": share, "threshold": rounded(lowest), "accuracy": self._correct_among(answered)})
        answered = confidence >= threshold
        return {
            "threshold": rounded(threshold),
            "answered": self.mean(answered.astype(float), self.has_gender),
            "accuracy": self._correct_among(answered & self.has_gender),
            "curve": curve,
        }

    def _correct_among(self, faces: np.ndarray) -> Score:
        return self.share(self.gender_correct, faces)

    def _baseline(self, names: Sequence[str], labels: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
        """Always answering the commonest class of these faces."""
        commonest = int(np.bincount(labels).argmax())
        right = (labels == commonest).astype(float)
        return {"answer": names[commonest], "accuracy": self.score(right.mean(), mean_of(right), faces)}

    def _macro(self, labels: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        present = {"labels": np.unique(labels), "average": "macro", "zero_division": 0}
        return {
            "macro_precision": rounded(precision_score(labels, answers, **present)),
            "macro_recall": rounded(recall_score(labels, answers, **present)),
        }

    def _classes(self, names: Sequence[str], labels: np.ndarray, probs: np.ndarray, faces: np.ndarray) -> list[dict]:
        """Precision, recall, F1 and one-against-rest AUC of each class; `labels` and `probs` are those of `faces`."""
        answers = probs.argmax(axis=1)
        f1 = f1_score(labels, answers, labels=range(len(names)), average=None, zero_division=0)
        classes = []
        for index, name in enumerate(names):
            labelled, answered = (values == index for values in (labels, answers))
            count = {"n": int(labelled.sum())}
            row: dict[str, Any] = {"name": name, **count}
            if labelled.any():
                f1_parts = 2.0 * (labelled & answered), 1.0 * labelled + answered
                row |= {
                    "precision": self.share(labelled, answered),
                    "recall": self.share(answered, labelled),
                    "f1": self.score(f1[index], ratio_of(*f1_parts), faces) | count,
                }
            if labelled.any() and not labelled.all():
                auc = roc_auc_score(labelled, probs[:, index])
                row["auc"] = self.score(auc, auc_of(labelled, probs[:, index]), faces) | count
            classes.append(row)
        return classes

    def calibration(self) -> dict[str, Any]:
        """Expected calibration error of both heads; share of labelled ages inside the age interval, and its width."""
        report: dict[str, Any] = {}
        if self.has_gender.any():
            confidence = self.predictions.gender_probs.max(axis=1)
            report["gender_ece"] = self._ece(confidence, self.gender_correct, self.has_gender)
        ranges = self.config.age_ranges
        labels = range_indices(self.predictions.age_labels, ranges)
        if (labels != IGNORE_INDEX).any():
            probs = range_probabilities(self.predictions.age_probs, ranges)
            report["age_range_ece"] = self._ece(
                probs.max(axis=1), probs.argmax(axis=1) == labels, labels != IGNORE_INDEX
            )
        if self.has_age.any():
            low, high = age_interval(self.predictions.age_probs, self.config.interval_mass).T
            inside = (low <= self.ages) & (self.ages <= high)
            width = (high - low + 1).astype(float)  # inclusive years: "30 to 34" is five years wide

            def part(faces: np.ndarray) -> dict[str, Any]:
                return {"coverage": self.share(inside, faces), "width_years": self.mean(width, faces)}

            races = self.predictions.races
            report["age_interval"] = {
                "target": self.config.interval_coverage,
                "coverage": self.mean(inside.astype(float), self.has_age),
                "width_years": self.mean(width, self.has_age),
                "by_age": [{"age_range": label, **part(faces)} for label, faces in self._by_age(ranges)],
                "by_race": [
                    {"race": str(race), **part(self.has_age & (races == race))}
                    for race in np.unique(races[self.has_age])
                ],
            }
        return report

    def _ece(self, confidence: np.ndarray, correct: np.ndarray, faces: np.ndarray) -> Score:
        statistic = calibration_error_of(confidence[faces], correct[faces])
        return self.score(float(statistic(np.ones((1, int(faces.sum()))))[0]), statistic, faces)

    def _by_age(self, ranges: list[list[int]]) -> list[tuple[str, np.ndarray]]:
        """(label, mask of the faces whose exact age lies in it) for each range that has one."""
        labels = [age_range_label(low, high, self.config.max_age) for low, high in ranges]
        masks = [(self.ages >= low) & (self.ages <= high) for low, high in ranges]
        return [(label, mask) for label, mask in zip(labels, masks, strict=True) if mask.any()]


def rounded(value: float) -> float | None:
    """Five decimals are more than any test split can tell apart; None instead of NaN, which JSON does not know."""
    return round(float(value), 5) if np.isfinite(value) else None
