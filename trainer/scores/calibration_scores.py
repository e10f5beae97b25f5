"""How far the probabilities can be trusted: calibration error, age intervals, and leaving out the least sure."""

from typing import Any

import numpy as np

from model.decoding_age_gender import age_interval, range_probabilities
from model.modeling_age_gender import IGNORE_INDEX
from trainer.metrics import range_indices
from trainer.scores.bootstrap import calibration_error_of
from trainer.scores.evaluation import Evaluation, Score, rounded


def score_calibration(evaluation: Evaluation) -> dict[str, Any]:
    """Expected calibration error of both heads; share of labelled ages inside the age interval, and its width."""
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
        low, high = age_interval(evaluation.predictions.age_probs, evaluation.config.interval_mass).T
        inside = (low <= evaluation.ages) & (evaluation.ages <= high)
        width = (high - low + 1).astype(float)  # inclusive years: "30 to 34" is five years wide

        def part(faces: np.ndarray) -> dict[str, Any]:
            return {"coverage": evaluation.share(inside, faces), "width_years": evaluation.mean(width, faces)}

        races = evaluation.predictions.races
        report["age_interval"] = {
            "target": evaluation.config.interval_coverage,
            "coverage": evaluation.mean(inside.astype(float), evaluation.has_age),
            "width_years": evaluation.mean(width, evaluation.has_age),
            "by_age": [{"age_range": label, **part(faces)} for label, faces in evaluation.by_age(ranges)],
            "by_race": [
                {"race": str(race), **part(evaluation.has_age & (races == race))}
                for race in np.unique(races[evaluation.has_age])
            ],
        }
    return report


def score_abstention(evaluation: Evaluation) -> dict[str, Any]:
    """What answering only above a confidence brings: the stored threshold, and the risk-coverage curve."""
    confidence, threshold = evaluation.predictions.gender_probs.max(axis=1), evaluation.config.gender_threshold
    curve = []
    for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5):
        lowest = np.quantile(confidence[evaluation.has_gender], 1 - share)
        answered = evaluation.has_gender & (confidence >= lowest)
        curve.append(
            {
                "answered": share,
                "threshold": rounded(lowest),
                "accuracy": evaluation.share(evaluation.gender_correct, answered),
            }
        )
    answered = confidence >= threshold
    return {
        "threshold": rounded(threshold),
        "answered": evaluation.mean(answered.astype(float), evaluation.has_gender),
        "accuracy": evaluation.share(evaluation.gender_correct, answered & evaluation.has_gender),
        "curve": curve,
    }


def _ece(evaluation: Evaluation, confidence: np.ndarray, correct: np.ndarray, faces: np.ndarray) -> Score:
    return evaluation.score(calibration_error_of(confidence[faces], correct[faces]), faces)
