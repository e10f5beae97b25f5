"""Scores of both heads: age error, age ranges in several sets, gender, each class against the rest, calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from model.configuration_age_gender import RANGE_SETS, age_range_label, parse_age_ranges
from model.decoding_age_gender import age_interval, range_probabilities
from model.losses_age_gender import IGNORE_INDEX
from model_card.metrics_text import Score
from trainer.evaluation.groups import score_groups, worst_groups
from trainer.evaluation.predictions import (
    Evaluation,
    auc_of,
    calibration_error_of,
    macro_of,
    mean_of,
    median_of,
    ratio_of,
    rounded,
)
from trainer.metrics import range_indices


def report_scores(evaluation: Evaluation) -> dict[str, Any]:
    """The part of `metrics.json` that follows from predictions and labels; a head without labelled faces is left out."""
    groups = score_groups(evaluation)
    report: dict[str, Any] = {
        "bootstrap": {"draws": len(evaluation.bootstrap.weights), "level": evaluation.bootstrap.level}
    }
    if evaluation.has_age.any():
        report["age"] = score_age(evaluation)
    report["age_ranges"] = score_age_ranges(evaluation)
    if evaluation.has_gender.any():
        report["gender"] = score_gender(evaluation) | {"abstention": score_abstention(evaluation)}
    report["calibration"] = score_calibration(evaluation)
    return report | {"groups": groups, "worst_group": worst_groups(evaluation, groups)}


def score_age(evaluation: Evaluation) -> dict[str, Any]:
    """Error and bias of the estimate in years, over all faces and by labelled age, beside the median baseline."""
    faces = evaluation.has_age
    error, size = evaluation.error[faces], np.abs(evaluation.error[faces])
    if evaluation.baseline_age is None:
        baseline_age, source = float(np.median(evaluation.ages[faces])), "median age of these faces"
    else:
        baseline_age, source = evaluation.baseline_age, "median age of the training split"
    return {
        "estimate": evaluation.config.age_estimate,
        "mae": evaluation.score(mean_of(size), faces),
        "cs5": evaluation.score(mean_of((size <= 5).astype(float)), faces),
        "median_absolute_error": evaluation.score(median_of(size), faces),
        "bias": evaluation.score(mean_of(error), faces),
        "baseline": {
            "answer": baseline_age,
            "source": source,
            "mae": evaluation.mean(np.abs(evaluation.ages - baseline_age), faces),
        },
        "by_age": [
            {
                "age_range": label,
                "mae": evaluation.mean(np.abs(evaluation.error), inside),
                "bias": evaluation.mean(evaluation.error, inside),
            }
            for label, inside in evaluation.by_age(evaluation.config.age_ranges)
        ],
    }


def score_age_ranges(evaluation: Evaluation) -> dict[str, Any]:
    """One entry per range set: those in common use, and the model's own if it is none of them."""
    max_age = evaluation.config.max_age
    starts = {name: parse_age_ranges(text)[-1][0] for name, text in RANGE_SETS.items()}  # of the last, open range
    sets = {name: parse_age_ranges(text, max_age) for name, text in RANGE_SETS.items() if starts[name] <= max_age}
    if evaluation.config.age_ranges not in sets.values():
        sets["the model's own"] = evaluation.config.age_ranges
    scored = {name: _score_range_set(evaluation, ranges) for name, ranges in sets.items()}
    return {name: scores for name, scores in scored.items() if scores}


def _score_range_set(evaluation: Evaluation, ranges: list[list[int]]) -> dict[str, Any] | None:
    labels = range_indices(evaluation.predictions.age_labels, ranges)
    probs = range_probabilities(evaluation.predictions.age_probs, ranges)
    faces = labels != IGNORE_INDEX
    if not faces.any():
        return None
    labels, probs = labels[faces], probs[faces]
    predicted = probs.argmax(axis=1)
    names = [age_range_label(low, high, evaluation.config.max_age) for low, high in ranges]
    return {
        "ranges": names,
        "accuracy": evaluation.score(mean_of((labels == predicted).astype(float)), faces),
        "within_one": evaluation.score(mean_of((np.abs(labels - predicted) <= 1).astype(float)), faces),
        **_macro(evaluation, labels, predicted, faces),
        "baseline": _baseline(evaluation, names, labels, faces),
        "classes": _classes(evaluation, names, labels, probs, faces),
        "confusion": confusion_matrix(labels, predicted, labels=range(len(names))).tolist(),
    }


def score_gender(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy, macro scores, AUC and each class, beside the majority-class baseline."""
    faces, names = evaluation.has_gender, evaluation.config.gender_names
    labels, probs = evaluation.predictions.gender_labels[faces], evaluation.predictions.gender_probs[faces]
    predicted, correct = probs.argmax(axis=1), evaluation.gender_correct[faces].astype(float)
    report = {
        "accuracy": evaluation.score(mean_of(correct), faces),
        **_macro(evaluation, labels, predicted, faces),
        "baseline": _baseline(evaluation, names, labels, faces),
        "classes": _classes(evaluation, names, labels, probs, faces),
        "confusion": confusion_matrix(labels, predicted, labels=range(len(names))).tolist(),
    }
    if len(np.unique(labels)) == 2:
        report["auc"] = evaluation.score(auc_of(labels == 1, probs[:, 1]), faces)
    return report


def _baseline(evaluation: Evaluation, names: Sequence[str], labels: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
    """The majority-class baseline: predict the commonest label of these faces for each of them."""
    commonest = int(np.bincount(labels).argmax())
    correct = (labels == commonest).astype(float)
    return {"answer": names[commonest], "accuracy": evaluation.score(mean_of(correct), faces)}


def _macro(evaluation: Evaluation, labels: np.ndarray, predicted: np.ndarray, faces: np.ndarray) -> dict[str, Any]:
    """Mean F1, precision and recall over the classes that have labelled faces."""
    return {
        f"macro_{name}": evaluation.score(macro_of(labels, predicted, name), faces)
        for name in ("f1", "precision", "recall")
    }


def _classes(
    evaluation: Evaluation, names: Sequence[str], labels: np.ndarray, probs: np.ndarray, faces: np.ndarray
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and one-vs-rest AUC of each class; `labels` and `probs` are those of `faces`."""
    predicted = probs.argmax(axis=1)
    classes = []
    for index, name in enumerate(names):
        labelled, chosen = (values == index for values in (labels, predicted))
        count = {"n": int(labelled.sum())}
        row: dict[str, Any] = {"name": name, **count}
        if labelled.any():
            f1_parts = 2.0 * (labelled & chosen), 1.0 * labelled + chosen
            row |= {
                "precision": evaluation.proportion(labelled, chosen),
                "recall": evaluation.proportion(chosen, labelled),
                "f1": evaluation.score(ratio_of(*f1_parts), faces) | count,
            }
        if labelled.any() and not labelled.all():
            row["auc"] = evaluation.score(auc_of(labelled, probs[:, index]), faces) | count
        classes.append(row)
    return classes


def score_calibration(evaluation: Evaluation) -> dict[str, Any]:
    """Expected calibration error of both heads; coverage and width of the age interval, also by age and race."""
    report: dict[str, Any] = {}
    if evaluation.has_gender.any():
        confidence = evaluation.predictions.gender_probs.max(axis=1)
        report["gender_ece"] = _ece(evaluation, confidence, evaluation.gender_correct, evaluation.has_gender)
    ranges = evaluation.config.age_ranges
    labels = range_indices(evaluation.predictions.age_labels, ranges)
    if (labels != IGNORE_INDEX).any():
        probs = range_probabilities(evaluation.predictions.age_probs, ranges)
        report["age_range_ece"] = _ece(
            evaluation, probs.max(axis=1), probs.argmax(axis=1) == labels, labels != IGNORE_INDEX
        )
    if evaluation.has_age.any():
        inside, width = age_intervals(evaluation)
        races = evaluation.predictions.races
        report["age_interval"] = {
            "target": evaluation.config.interval_coverage,
            "coverage": evaluation.mean(inside.astype(float), evaluation.has_age),
            "width_years": evaluation.mean(width, evaluation.has_age),
            "by_age": [
                {"age_range": label, **score_interval(evaluation, faces)} for label, faces in evaluation.by_age(ranges)
            ],
            "by_race": [
                {"race": str(race), **score_interval(evaluation, evaluation.has_age & (races == race))}
                for race in np.unique(races[evaluation.has_age])
            ],
        }
    return report


def age_intervals(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """(N,) whether the age interval contains the labelled age, and (N,) its width in years."""
    low, high = age_interval(evaluation.predictions.age_probs, evaluation.config.interval_mass).T
    inside = (low <= evaluation.ages) & (evaluation.ages <= high)
    return inside, (high - low + 1).astype(float)  # inclusive years: "30 to 34" is five years wide


def score_interval(evaluation: Evaluation, faces: np.ndarray) -> dict[str, Any]:
    """Coverage and width of the age interval of the faces of an (N,) mask, whose ages are known."""
    inside, width = age_intervals(evaluation)
    return {"coverage": evaluation.proportion(inside, faces), "width_years": evaluation.mean(width, faces)}


def score_abstention(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy when the model abstains at low confidence: at the stored threshold, and along the risk-coverage curve."""
    confidence, threshold = evaluation.predictions.gender_probs.max(axis=1), evaluation.config.gender_threshold
    curve = []
    for fraction in (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5):
        lowest = np.quantile(confidence[evaluation.has_gender], 1 - fraction)
        answered = evaluation.has_gender & (confidence >= lowest)
        curve.append(
            {
                "answered": fraction,
                "threshold": rounded(lowest),
                "accuracy": evaluation.proportion(evaluation.gender_correct, answered),
            }
        )
    answered = confidence >= threshold
    return {
        "threshold": rounded(threshold),
        "answered": evaluation.mean(answered.astype(float), evaluation.has_gender),
        "accuracy": evaluation.proportion(evaluation.gender_correct, answered & evaluation.has_gender),
        "curve": curve,
    }


def _ece(evaluation: Evaluation, confidence: np.ndarray, correct: np.ndarray, faces: np.ndarray) -> Score:
    return evaluation.score(calibration_error_of(confidence[faces], correct[faces]), faces)
