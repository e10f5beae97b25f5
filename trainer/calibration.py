"""Calibration of a trained model on the validation split: temperature scaling, point estimate of the age, split conformal
age interval, abstention threshold of the gender.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from transformers import Trainer

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import conformal_mass, estimate_age, softmax
from model.modeling_age_gender import IGNORE_INDEX, AgeGenderModel
from trainer.metrics import exact_ages


@dataclass
class Calibration:
    """What was fitted on validation."""

    faces: int  # in the validation split
    age_temperature: float
    gender_temperature: float
    age_estimate: str
    interval_coverage: float
    interval_mass: float
    gender_target_accuracy: float
    gender_target_reached: bool
    gender_threshold: float
    gender_answered: float  # fraction of the faces at or above the threshold

    def apply(self, model: AgeGenderModel) -> None:
        """Divide the heads' weights by their temperatures, so that a plain softmax of the logits is calibrated, and write
        the other values into `model.config`. Changes `model` in place.
        """
        with torch.no_grad():
            for head, temperature in (
                (model.age_head, self.age_temperature),
                (model.gender_head, self.gender_temperature),
            ):
                head.weight.div_(temperature)
                head.bias.div_(temperature)
        chosen = asdict(self)
        for name in ("age_estimate", "interval_coverage", "interval_mass", "gender_threshold"):
            setattr(model.config, name, chosen[name])


def calibrate(
    trainer: Trainer, model: AgeGenderModel, validation: Dataset, gender_target_accuracy: float
) -> Calibration:
    """Fit the calibration on the trainer's predictions for `validation`, and write it into `model` in place.

    Args:
        model: holds all weights of the trainer's own, which may be sharded.
        gender_target_accuracy: see `abstention_threshold`.
    """
    prediction: Any = trainer.predict(validation, metric_key_prefix="validation")
    (age_logits, _, gender_logits), (age_labels, gender_labels) = prediction.predictions, prediction.label_ids
    calibration = fit_calibration(
        age_logits, gender_logits, age_labels, gender_labels, model.config, gender_target_accuracy
    )
    calibration.apply(model)
    return calibration


def fit_calibration(
    age_logits: np.ndarray,
    gender_logits: np.ndarray,
    age_labels: np.ndarray,
    gender_labels: np.ndarray,
    config: AgeGenderConfig,
    gender_target_accuracy: float,
) -> Calibration:
    """Fit all of it on the predictions for the validation split.

    Args:
        age_logits: (N, years), of a model that is not calibrated yet.
        gender_logits: (N, 2), of the same model.
        age_labels: (N,) years or (N, 2) inclusive ranges; -100 where unknown. Only exact ages are used.
        gender_labels: (N,); -100 where unknown.
        config: holds the coverage of the interval, and the values to keep where a head has no labels.
        gender_target_accuracy: see `abstention_threshold`. Below the threshold the model abstains.
    """
    years = exact_ages(age_labels)
    exact = years != IGNORE_INDEX
    years = years[exact]
    known = gender_labels != IGNORE_INDEX

    age_temperature = fit_temperature(age_logits[exact], years)
    gender_temperature = fit_temperature(gender_logits[known], gender_labels[known])
    age_probs = softmax(age_logits[exact] / age_temperature)
    errors = {
        name: float(np.abs(estimate_age(age_probs, name) - years).mean()) for name in ("median", "mean") if len(years)
    }
    gender_probs = softmax(gender_logits[known] / gender_temperature)
    threshold, answered, reached = abstention_threshold(
        gender_probs.max(axis=1), gender_probs.argmax(axis=1) == gender_labels[known], gender_target_accuracy
    )
    return Calibration(
        faces=len(age_labels),
        age_temperature=age_temperature,
        gender_temperature=gender_temperature,
        age_estimate=min(errors, key=lambda name: errors[name], default=config.age_estimate),
        interval_coverage=config.interval_coverage,
        interval_mass=conformal_mass(age_probs, years, config.interval_coverage)
        if len(years)
        else config.interval_mass,
        gender_target_accuracy=gender_target_accuracy,
        gender_target_reached=reached,
        gender_threshold=threshold if known.any() else config.gender_threshold,
        gender_answered=answered,
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, from 0.1 to 10, that minimises the negative log-likelihood (Guo et al., 2017); 1 without labels.

    Args:
        logits: (N, classes). labels: (N,) class indices.
    """
    if not len(labels):
        return 1.0
    rows = np.arange(len(labels))

    def negative_log_likelihood(log_temperature: float) -> float:
        probabilities = softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return float(-np.log(probabilities[rows, labels] + 1e-12).mean())

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=(-2.3, 2.3), method="bounded").x))


def abstention_threshold(
    confidence: np.ndarray, correct: np.ndarray, target_accuracy: float
) -> tuple[float, float, bool]:
    """The lowest confidence at which the answered faces reach the target accuracy.

    They reach it when the lower end of Wilson's one-sided 95 % interval does: a threshold whose accuracy merely touches
    the target on these faces would miss it on others. This is a margin and no guarantee. The interval holds for one
    threshold, the lowest of many is taken, and the same faces chose the checkpoint. If no threshold that answers at least
    a tenth of the faces reaches the target, the one with the best accuracy among those is taken.

    Args:
        confidence: (N,) probability of each predicted class. correct: (N,) whether it is the labelled one.

    Returns:
        The threshold, the fraction of the faces answered at it, and whether the target is reached.
    """
    if not len(confidence):
        return 0.5, 1.0, False
    order = np.argsort(-confidence)
    answered = np.arange(1, len(order) + 1)
    correct_so_far = np.cumsum(correct[order])
    accuracy = correct_so_far / answered
    reaching = np.flatnonzero(wilson_lower_bound(correct_so_far, answered) >= target_accuracy)
    tenth = len(order) // 10
    is_reached = bool(len(reaching) and reaching[-1] >= tenth)
    last = reaching[-1] if is_reached else tenth + int(accuracy[tenth:].argmax())
    return float(confidence[order[last]]), float(answered[last] / len(order)), is_reached


def wilson_lower_bound(correct: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """(N,) lower ends of the one-sided 95 % intervals of `correct` out of `answered` (Wilson, 1927).

    scipy.stats.binomtest(...).proportion_ci(method="wilson") takes one pair at a time.
    """
    z = norm.ppf(0.95)
    accuracy = correct / answered
    middle = accuracy + z**2 / (2 * answered)
    spread = z * np.sqrt(accuracy * (1 - accuracy) / answered + z**2 / (4 * answered**2))
    return (middle - spread) / (1 + z**2 / answered)
