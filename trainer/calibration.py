"""Make a trained model's probabilities mean what they say, from validation pictures alone."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import conformal_mass, estimate_age, softmax
from model.modeling_age_gender import IGNORE_INDEX, AgeGenderModel
from trainer.metrics import exact_ages


@dataclass
class Calibration:
    """What was fitted, on `faces` validation pictures."""

    faces: int
    age_temperature: float
    gender_temperature: float
    age_estimate: str
    interval_coverage: float
    interval_mass: float
    gender_target_accuracy: float
    gender_target_reached: bool
    gender_threshold: float
    gender_answered: float

    def apply(self, model: AgeGenderModel) -> None:
        """Fold both temperatures into the heads, so that a plain softmax of the logits is calibrated for everybody."""
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


def fit_calibration(
    age_logits: np.ndarray,
    gender_logits: np.ndarray,
    age_labels: np.ndarray,
    gender_labels: np.ndarray,
    config: AgeGenderConfig,
    gender_target_accuracy: float,
) -> Calibration:
    """Fit on validation: temperatures, point estimate, width of the age interval, threshold of "unsure".

    Args:
        age_logits: (N, years); gender_logits: (N, 2), both from a model that was never calibrated before.
        age_labels: (N,) or (N, 2); gender_labels: (N,); -100 where unknown; ranges of ages count as unknown here.
        gender_target_accuracy: see `abstention_threshold`; what is less sure becomes "unsure".
    """
    years = exact_ages(age_labels)
    exact = years != IGNORE_INDEX
    years = years[exact]
    known = gender_labels != IGNORE_INDEX

    age_temperature = fit_temperature(age_logits[exact], years)
    gender_temperature = fit_temperature(gender_logits[known], gender_labels[known])
    age_probs = softmax(age_logits[exact] / age_temperature)
    errors = {name: np.abs(estimate_age(age_probs, name) - years).mean() for name in ("median", "mean") if len(years)}
    gender_probs = softmax(gender_logits[known] / gender_temperature)
    threshold, answered, reached = abstention_threshold(
        gender_probs.max(axis=1), gender_probs.argmax(axis=1) == gender_labels[known], gender_target_accuracy
    )
    return Calibration(
        faces=len(age_labels),
        age_temperature=age_temperature,
        gender_temperature=gender_temperature,
        age_estimate=min(errors, key=errors.get, default=config.age_estimate),
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
    """The temperature that minimises the negative log-likelihood (Guo et al., 2017), between 0.1 and 10; 1 without labels."""
    if not len(labels):
        return 1.0
    rows = np.arange(len(labels))

    def negative_log_likelihood(log_temperature: float) -> float:
        probabilities = softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return -np.log(probabilities[rows, labels] + 1e-12).mean()

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=(-2.3, 2.3), method="bounded").x))


def abstention_threshold(
    confidence: np.ndarray, correct: np.ndarray, target_accuracy: float
) -> tuple[float, float, bool]:
    """The lowest confidence at which the answers given are right often enough, the share of faces answered, and whether
    there is one.

    "Often enough": the lower end of Wilson's one-sided 95 % interval reaches `target_accuracy`. Taking the first
    threshold whose accuracy merely touches it on these faces would miss it on others. It is a margin and no guarantee:
    the interval is of one threshold, the lowest of many is taken, and the faces chose the checkpoint too. Where none
    reaches it, the one with the best accuracy over at least a tenth of the faces is taken.
    """
    if not len(confidence):
        return 0.5, 1.0, False
    order = np.argsort(-confidence)
    answered = np.arange(1, len(order) + 1)
    right = np.cumsum(correct[order])
    accuracy = right / answered
    reached = np.flatnonzero(wilson_lower_bound(right, answered) >= target_accuracy)
    tenth = len(order) // 10
    is_reached = bool(len(reached)) and bool(reached[-1] >= tenth)
    last = reached[-1] if is_reached else tenth + int(accuracy[tenth:].argmax())
    return float(confidence[order[last]]), float(answered[last] / len(order)), is_reached


def wilson_lower_bound(right: np.ndarray, answered: np.ndarray, z: float = norm.ppf(0.95)) -> np.ndarray:
    """Lower end of the one-sided interval of `right` of `answered` (Wilson, 1927); scipy has it for one pair only."""
    share = right / answered
    middle = share + z**2 / (2 * answered)
    spread = z * np.sqrt(share * (1 - share) / answered + z**2 / (4 * answered**2))
    return (middle - spread) / (1 + z**2 / answered)
