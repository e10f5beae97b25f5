"""All scores of one evaluation, as they stand in `metrics.json`."""

from typing import Any

from trainer.scores.calibration_scores import score_abstention, score_calibration
from trainer.scores.evaluation import Evaluation
from trainer.scores.group_scores import score_groups, worst_groups
from trainer.scores.head_scores import score_age, score_age_ranges, score_gender


def report_scores(evaluation: Evaluation) -> dict[str, Any]:
    """The part of `metrics.json` that predictions and labels decide; what has no labelled face is left out."""
    groups = score_groups(evaluation)
    report = {"bootstrap": {"draws": len(evaluation.bootstrap.weights), "level": evaluation.bootstrap.level}}
    if evaluation.has_age.any():
        report["age"] = score_age(evaluation)
    report["age_ranges"] = score_age_ranges(evaluation)
    if evaluation.has_gender.any():
        report["gender"] = score_gender(evaluation) | {"abstention": score_abstention(evaluation)}
    report["calibration"] = score_calibration(evaluation)
    return report | {"groups": groups, "worst_group": worst_groups(evaluation, groups)}
