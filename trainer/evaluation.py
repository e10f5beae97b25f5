"""From predictions and labels to everything `metrics.json` says: scores of both heads, calibration, groups."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, median_absolute_error, precision_recall_fscore_support, roc_auc_score

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
from trainer.metrics import age_range_scores, age_scores, exact_ages, gender_scores, range_indices


CELL_AGES = "0-19, 20-39, 40-59, 60+"  # coarse, so that a race x gender x age cell of a usual test split has faces
MINIMUM_SUPPORT = 30  # faces a group needs before it can be called the worst
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
        self.gender_correct = predictions.gender_probs.argmax(axis=1) == predictions.gender_labels

    def report(self) -> dict[str, Any]:
        """The part of `metrics.json` that predictions and labels decide. Parts without a labelled face are left out."""
        groups = self.groups()
        report = {
            "bootstrap": {"draws": len(self.bootstrap.weights), "level": self.bootstrap.level},
            "age": self.age() if self.has_age.any() else None,
            "age_ranges": self.age_range_sets(),
            "gender": self.gender() if self.has_gender.any() else None,
            "calibration": self.calibration(),
            "groups": groups,
            "worst_group": worst_groups(groups),
        }
        return {name: part for name, part in report.items() if part}

    def score(self, value: float, statistic: Statistic, faces: np.ndarray) -> Score:
        low, high = self.bootstrap.interval(statistic, faces)
        count = int(faces.sum())
        return {"value": _rounded(value), "low": _rounded(low), "high": _rounded(high), "n": count}

    def mean(self, values: np.ndarray, faces: np.ndarray) -> Score:
        """Mean of (N,) values over the faces of an (N,) mask; no interval where there are too few of them."""
        count = int(faces.sum())
        if count < MINIMUM_FOR_INTERVAL:
            return {"value": _rounded(values[faces].mean()) if count else None, "low": None, "high": None, "n": count}
        return self.score(values[faces].mean(), mean_of(values[faces].astype(np.float64)), faces)

    def age(self) -> dict[str, Any]:
        faces = self.has_age
        values = age_scores(self.age_years, self.ages)
        error, size = self.error[faces], np.abs(self.error[faces])
        if self.baseline_age is None:
            baseline_age, source = float(np.median(self.ages[faces])), "median age of these faces"
        else:
            baseline_age, source = self.baseline_age, "median age of the training split"
        return {
            "estimate": self.config.age_estimate,
            "mae": self.score(values["age_mae"], mean_of(size), faces),
            "cs5": self.score(values["age_cs5"], mean_of((size <= 5).astype(float)), faces),
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
        values = gender_scores(probs, labels)
        report = {
            "accuracy": self.score(values["gender_accuracy"], mean_of(correct), faces),
            "macro_f1": self.score(values["gender_f1"], macro_f1_of(labels, answers), faces),
            **self._macro(labels, answers),
            "baseline": self._baseline(names, labels, faces),
            "classes": self._classes(names, labels, probs, faces),
            "confusion": confusion_matrix(labels, answers, labels=range(len(names))).tolist(),
            "abstention": self._abstention(),
        }
        if "gender_auc" in values:
            report["auc"] = self.score(values["gender_auc"], auc_of(labels == 1, probs[:, 1]), faces)
        return report

    def _abstention(self) -> dict[str, Any]:
        """What answering only above a confidence brings: the stored threshold, and the risk-coverage curve."""
        confidence, threshold = self.predictions.gender_probs.max(axis=1), self.config.gender_threshold
        curve = []
        for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5):
            lowest = np.quantile(confidence[self.has_gender], 1 - share)
            answered = self.has_gender & (confidence >= lowest)
            curve.append({"answered": share, "threshold": _rounded(lowest), "accuracy": self._correct_among(answered)})
        answered = confidence >= threshold
        return {
            "threshold": _rounded(threshold),
            "answered": self.mean(answered.astype(float), self.has_gender),
            "accuracy": self._correct_among(answered & self.has_gender),
            "curve": curve,
        }

    def _correct_among(self, faces: np.ndarray) -> Score:
        return self.mean(self.gender_correct.astype(float), faces)

    def _baseline(self, names: Sequence[str], labels: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
        """Always answering the commonest class of these faces."""
        commonest = int(np.bincount(labels).argmax())
        right = (labels == commonest).astype(float)
        return {"answer": names[commonest], "accuracy": self.score(right.mean(), mean_of(right), faces)}

    def _macro(self, labels: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        precision, recall, _, _ = precision_recall_fscore_support(
            labels, answers, labels=np.unique(labels), average="macro", zero_division=0
        )
        return {"macro_precision": _rounded(precision), "macro_recall": _rounded(recall)}

    def _classes(self, names: Sequence[str], labels: np.ndarray, probs: np.ndarray, faces: np.ndarray) -> list[dict]:
        """Precision, recall, F1 and one-against-rest AUC of each class; `labels` and `probs` are those of `faces`."""
        answers = probs.argmax(axis=1)
        indices = range(len(names))
        precision, recall, f1, support = precision_recall_fscore_support(
            labels, answers, labels=indices, zero_division=0
        )
        classes = []
        for index, name in enumerate(names):
            labelled, answered = (values == index for values in (labels, answers))
            hit = (labelled & answered).astype(float)
            row: dict[str, Any] = {"name": name, "n": int(support[index])}
            if support[index]:
                row |= {
                    "precision": self.score(precision[index], ratio_of(hit, answered.astype(float)), faces),
                    "recall": self.score(recall[index], ratio_of(hit, labelled.astype(float)), faces),
                    "f1": self.score(f1[index], ratio_of(2 * hit, labelled.astype(float) + answered), faces),
                }
                for value in ("precision", "recall", "f1"):
                    row[value]["n"] = int((answered if value == "precision" else labelled).sum())
            if 0 < support[index] < len(labels):
                auc = roc_auc_score(labelled, probs[:, index])
                row["auc"] = self.score(auc, auc_of(labelled, probs[:, index]), faces) | {"n": int(support[index])}
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
            inside = ((low <= self.ages) & (self.ages <= high)).astype(float)
            width = (high - low + 1).astype(float)  # inclusive years: "30 to 34" is five years wide

            def row(faces: np.ndarray) -> dict[str, Any]:
                return {"coverage": self.mean(inside, faces), "width_years": self.mean(width, faces)}

            report["age_interval"] = {
                "target": self.config.interval_coverage,
                **row(self.has_age),
                "by_age": [{"age_range": label, **row(faces)} for label, faces in self._by_age(ranges)],
                "by_race": [
                    {"race": str(race), **row(self.has_age & (self.predictions.races == race))}
                    for race in np.unique(self.predictions.races[self.has_age])
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

    def groups(self) -> list[dict[str, Any]]:
        """Scores by race, gender, age and each combination of them; a group without a face is left out."""
        cell_ages = parse_age_ranges(CELL_AGES, self.config.max_age)
        age_names = [*(age_range_label(low, high, self.config.max_age) for low, high in cell_ages), "unknown"]
        gender_names = [*self.config.gender_names, "unknown"]
        ages, genders = range_indices(self.predictions.age_labels, cell_ages), self.predictions.gender_labels
        factors = {
            "race": self.predictions.races.astype(object),
            "gender": np.array(gender_names, dtype=object)[np.where(self.has_gender, genders, -1)],
            "age": np.array(age_names, dtype=object)[np.where(ages != IGNORE_INDEX, ages, -1)],
        }
        order = {"race": sorted(set(factors["race"])), "gender": gender_names, "age": age_names}
        rows = []
        for by in (names for size in (1, 2, 3) for names in combinations(factors, size)):
            for values in product(*(order[name] for name in by)):
                faces = np.logical_and.reduce([factors[name] == value for name, value in zip(by, values, strict=True)])
                if faces.any() and "unknown" not in values:
                    rows.append({"by": " x ".join(by), **dict(zip(by, values, strict=True)), **self._group(faces)})
        return rows

    def _group(self, faces: np.ndarray) -> dict[str, Any]:
        with_gender = faces & self.has_gender
        accuracy = self._correct_among(with_gender)
        if accuracy["n"]:
            # Wilson: unlike the bootstrap it does not call "5 of 5 right" a certainty
            found = binomtest(int(self.gender_correct[with_gender].sum()), accuracy["n"]).proportion_ci(
                self.bootstrap.level, method="wilson"
            )
            accuracy |= {"low": _rounded(found.low), "high": _rounded(found.high)}
        return {
            "n": int(faces.sum()),
            "age_mae": self.mean(np.abs(self.error), faces & self.has_age),
            "gender_accuracy": accuracy,
        }


def worst_groups(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The group with the largest age error and the one with the lowest gender accuracy, and their gap to the best.

    Only race x gender x age cells of at least `MINIMUM_SUPPORT` faces are compared; without races, gender x age cells.
    """
    by = "race x gender x age" if any(group["by"] == "race x gender x age" for group in groups) else "gender x age"
    report: dict[str, Any] = {"by": by, "minimum_support": MINIMUM_SUPPORT}
    for metric, sign in (("age_mae", -1), ("gender_accuracy", 1)):
        cells = [group for group in groups if group["by"] == by and group[metric]["n"] >= MINIMUM_SUPPORT]
        cells.sort(key=lambda group: sign * group[metric]["value"])
        if len(cells) > 1:
            worst, best = cells[0], cells[-1]
            report[metric] = {
                "worst": {name: worst[name] for name in by.split(" x ")} | worst[metric],
                "best": {name: best[name] for name in by.split(" x ")} | best[metric],
                "gap": _rounded(abs(worst[metric]["value"] - best[metric]["value"])),
                "cells": len(cells),
            }
    return report


def _rounded(value: float) -> float | None:
    """Five decimals are more than any test split can tell apart; None instead of NaN, which JSON does not know."""
    return round(float(value), 5) if np.isfinite(value) else None
