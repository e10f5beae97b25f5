"""Calibration of a trained model on the validation split: temperature scaling, point estimate of the age, split conformal
age interval, abstention threshold of the gender.

Each figure starts from a prior, the calibration of the fine-tuned model: its heads hold its temperatures, so that they start
at 1, and its configuration holds the rest. A model from scratch has the priors temperature 1 and the configuration's defaults.
The validation faces move a figure as far as they are evidence; docs/fine_tuning.md says what that means for small sets.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import norm
from transformers import Trainer

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import conformal_mass, estimate_age, softmax
from model.losses_age_gender import IGNORE_INDEX
from model.modeling_age_gender import AgeGenderModel
from model_card.metrics_text import calibrated_figure
from trainer.metrics import exact_ages


logger = logging.getLogger(__name__)
PRIOR_FACES = 100  # the prior of temperatures and interval weighs as many faces
FACES_FOR_THRESHOLD = 500  # from here on Wilson's interval is narrow: to prove the target costs few answers


@dataclass
class Evidence:
    """Where a figure of the calibration comes from."""

    prior: float | str
    alone: float | str | None  # what these faces would give without the prior; None: nothing
    faces: int  # validation faces with the label that it needs
    faces_needed: int  # from this number on, the faces weigh at least as much as the prior
    weight: float  # of these faces in the figure, 0 to 1; the rest is the prior's


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
    prior: str | None  # name of the fine-tuned model; None: a model from scratch
    evidence: dict[str, Evidence]  # of the two temperatures, age_estimate, interval_mass and gender_threshold

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

    def log(self) -> None:
        """One line a figure; as a warning where the validation faces are fewer than a figure needs."""
        few = [name for name, one in self.evidence.items() if one.faces < one.faces_needed]
        source = f"those of {self.prior}" if self.prior else "the defaults of an untrained model"
        lines = [f"Calibration on {self.faces} validation faces; the prior values are {source}."]
        for name, one in self.evidence.items():
            value, prior, alone = map(calibrated_figure, (getattr(self, name), one.prior, one.alone))
            lines.append(
                f"  {name} {value}: {_share(one.weight)}; prior {prior}, these faces alone {alone}; {one.faces} faces, it "
                f"needs {one.faces_needed}"
            )
        lines.append(
            f"  The gender is answered for {100 * self.gender_answered:.1f} % of these faces; that "
            f"{100 * self.gender_target_accuracy:g} % of the answers are correct is "
            + ("shown by them." if self.gender_target_reached else "not shown by so few or such faces.")
        )
        logger.log(logging.WARNING if few else logging.INFO, "\n".join(lines))


def _share(weight: float) -> str:
    return {0.0: "kept", 1.0: "fitted"}.get(weight, f"shrunk, {100 * weight:.0f} % these faces")


def calibrate(
    trainer: Trainer,
    model: AgeGenderModel,
    validation: Dataset,
    gender_target_accuracy: float,
    finetuned_from: str | None = None,
) -> Calibration:
    """Fit the calibration on the trainer's predictions for `validation`, and write it into `model` in place.

    Args:
        model: holds all weights of the trainer's own, which may be sharded.
        gender_target_accuracy: see `abstention_threshold`.
        finetuned_from: name of the model whose calibration `model` began with; None for one from scratch.
    """
    prediction: Any = trainer.predict(validation, metric_key_prefix="validation")
    (age_logits, _, gender_logits), (age_labels, gender_labels) = prediction.predictions, prediction.label_ids
    calibration = fit_calibration(
        age_logits, gender_logits, age_labels, gender_labels, model.config, gender_target_accuracy, finetuned_from
    )
    calibration.apply(model)
    if trainer.is_world_process_zero():
        calibration.log()
    return calibration


def fit_calibration(
    age_logits: np.ndarray,
    gender_logits: np.ndarray,
    age_labels: np.ndarray,
    gender_labels: np.ndarray,
    config: AgeGenderConfig,
    gender_target_accuracy: float,
    finetuned_from: str | None = None,
) -> Calibration:
    """Fit all of it on the predictions for the validation split.

    Args:
        age_logits: (N, years), of a model that is not calibrated yet, or that began with the calibration of another one.
        gender_logits: (N, 2), of the same model.
        age_labels: (N,) years or (N, 2) inclusive ranges; -100 where unknown. Only exact ages are used.
        gender_labels: (N,); -100 where unknown.
        config: holds the coverage of the interval, and the prior of the other figures.
        gender_target_accuracy: see `abstention_threshold`. Below the threshold the model abstains.
        finetuned_from: name of the model that `config` was read from; None for one from scratch.
    """
    years = exact_ages(age_labels)
    exact, known = years != IGNORE_INDEX, gender_labels != IGNORE_INDEX
    years, genders = years[exact], gender_labels[known]
    age_logits, gender_logits = age_logits[exact], gender_logits[known]

    temperatures, evidence = {}, {}
    for name, logits, labels in (
        ("age_temperature", age_logits, years),
        ("gender_temperature", gender_logits, genders),
    ):
        temperatures[name] = fit_temperature(logits, labels, PRIOR_FACES)
        alone = fit_temperature(logits, labels) if len(labels) else None
        evidence[name] = Evidence(1.0, alone, len(labels), PRIOR_FACES, weight_of(labels))

    age_probs = softmax(age_logits / temperatures["age_temperature"])
    errors = {
        name: float(np.abs(estimate_age(age_probs, name) - years).mean()) for name in ("median", "mean") if len(years)
    }
    best = min(errors, key=lambda name: errors[name], default=None)
    is_clear = best is not None and len(years) >= PRIOR_FACES
    estimate = best if best and is_clear else config.age_estimate
    evidence["age_estimate"] = Evidence(config.age_estimate, best, len(years), PRIOR_FACES, float(is_clear))

    mass = conformal_mass(age_probs, years, config.interval_coverage)
    own, prior_mass = weight_of(years), config.interval_mass
    evidence["interval_mass"] = Evidence(prior_mass, mass if len(years) else None, len(years), PRIOR_FACES, own)

    gender_probs = softmax(gender_logits / temperatures["gender_temperature"])
    threshold = abstention_threshold(
        gender_probs.max(axis=1),
        gender_probs.argmax(axis=1) == genders,
        gender_target_accuracy,
        config.gender_threshold,
    )
    evidence["gender_threshold"] = Evidence(
        *(config.gender_threshold, threshold.proved, len(genders), FACES_FOR_THRESHOLD),
        float(threshold.value != config.gender_threshold),
    )
    return Calibration(
        faces=len(age_labels),
        **temperatures,
        age_estimate=estimate,
        interval_coverage=config.interval_coverage,
        interval_mass=own * mass + (1 - own) * prior_mass,
        gender_target_accuracy=gender_target_accuracy,
        gender_target_reached=threshold.is_reached,
        gender_threshold=threshold.value,
        gender_answered=threshold.answered,
        prior=finetuned_from,
        evidence=evidence,
    )


def weight_of(labels: np.ndarray) -> float:
    """Of the labelled faces beside the prior, as in credibility theory (Buehlmann, 1967): 0 without faces, 1 with all."""
    return len(labels) / (len(labels) + PRIOR_FACES)


def fit_temperature(logits: np.ndarray, labels: np.ndarray, prior_faces: float = 0) -> float:
    """The temperature, from 0.1 to 10, that maximises the likelihood of the labels (Guo et al., 2017) and of `prior_faces`
    pseudo-faces whose labels are as the model says at temperature 1; 1 without labels.

    Such pseudo-faces are a catalytic prior (Huang, Stein, Rubin and Kou, 2020). Six faces that are all predicted correctly
    would drive the temperature to 0 without them.

    Args:
        logits: (N, classes). labels: (N,) class indices.
    """
    if not len(labels):
        return 1.0
    logits = logits.astype(np.float64)
    rows, expected = np.arange(len(labels)), softmax(logits)

    def negative_log_likelihood(log_temperature: float) -> float:
        log_probs = log_softmax(logits / np.exp(log_temperature), axis=1)
        labelled, pseudo = -log_probs[rows, labels].mean(), -(expected * log_probs).sum(axis=1).mean()
        pseudo += 1e-9 * log_temperature**2  # 1 where the logits are so large that all temperatures are alike
        return float((len(labels) * labelled + prior_faces * pseudo) / (len(labels) + prior_faces))

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=(-2.3, 2.3), method="bounded").x))


class Threshold(NamedTuple):
    """`value`; the fraction of the faces `answered` at it; whether they show that the answers reach the target; and the
    lowest threshold at which the faces alone do so, if there is one.
    """

    value: float
    answered: float
    is_reached: bool
    proved: float | None


def abstention_threshold(
    confidence: np.ndarray, correct: np.ndarray, target_accuracy: float, prior: float = 0.5
) -> Threshold:
    """The confidence from which on the answered faces reach the target accuracy.

    A threshold is proved when the lower end of Wilson's one-sided 95 % interval of the accuracy above it reaches the target:
    one whose accuracy merely touches the target on these faces would miss it on others. With `FACES_FOR_THRESHOLD` faces or
    more, the lowest proved threshold is taken. With fewer, the proof alone would cost many answers: 51 faces without an
    error do not prove 95 %. Then the prior stays, unless a lower threshold is proved, or the faces show that the prior is
    too low: it is raised while the upper end of the interval is below the target, or below the best that they prove.

    This is a margin and no guarantee. The interval holds for one threshold, the lowest of many is taken, and the same faces
    chose the checkpoint.

    Args:
        confidence: (N,) probability of each predicted class. correct: (N,) whether it is the labelled one.
        prior: threshold to start from; 0.5 answers every face of two genders.
    """
    count = len(confidence)
    if not count:
        return Threshold(prior, 1.0, False, None)
    order = np.argsort(-confidence)
    thresholds = confidence[order]
    lower, upper = wilson_bounds(np.cumsum(correct[order]), np.arange(1, count + 1))
    # Equal confidences are answered together, and a threshold answers at least a tenth of the faces.
    candidates = np.flatnonzero(np.append(thresholds[:-1] != thresholds[1:], True))
    candidates = candidates[candidates >= count // 10]

    def lowest(bound: np.ndarray, accuracy: float) -> int | None:
        """The last face at whose confidence `bound` still reaches `accuracy`."""
        reaching = candidates[bound[candidates] >= accuracy]
        return int(reaching[-1]) if len(reaching) else None

    def down_to(face: int) -> float:
        """The threshold that answers down to this face; the prior, if that is lower, where it is the last one."""
        return min(prior, float(thresholds[face])) if face == count - 1 else float(thresholds[face])

    proved = lowest(lower, target_accuracy)
    if proved is not None and count >= FACES_FOR_THRESHOLD:
        value = down_to(proved)
    else:
        needed = lowest(upper, min(target_accuracy, float(lower[candidates].max())))
        assert needed is not None, "the face with the best lower end has an upper end above it"
        value = max(down_to(needed), prior if proved is None else min(prior, down_to(proved)))
    answered = int((confidence >= value).sum())
    return Threshold(
        value,
        answered / count,
        bool(answered and lower[answered - 1] >= target_accuracy),
        None if proved is None else float(thresholds[proved]),
    )


def wilson_bounds(correct: np.ndarray, answered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) lower and (N,) upper ends of the one-sided 95 % intervals of `correct` out of `answered` (Wilson, 1927).

    scipy.stats.binomtest(...).proportion_ci(method="wilson") takes one pair at a time.
    """
    z = norm.ppf(0.95)
    accuracy = correct / answered
    middle = accuracy + z**2 / (2 * answered)
    spread = z * np.sqrt(accuracy * (1 - accuracy) / answered + z**2 / (4 * answered**2))
    scale = 1 + z**2 / answered
    return (middle - spread) / scale, (middle + spread) / scale
