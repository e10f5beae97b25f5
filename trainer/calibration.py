"""Calibration of a trained model on the validation splits of its sets: temperature scaling, point estimate of the age, split
conformal age interval, abstention threshold of the gender.

Each figure starts from a prior, the calibration of the fine-tuned model: its heads hold its temperatures, so that they start
at 1, and its configuration holds the rest. A model from scratch has the priors temperature 1 and the configuration's defaults.
The validation faces move a figure as far as they are evidence; docs/fine_tuning.md says what that means for small sets.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from transformers import Trainer

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import age_interval, conformal_mass, estimate_age, softmax
from model.losses_age_gender import IGNORE_INDEX
from model.modeling_age_gender import AgeGenderModel
from model_card.metrics_text import calibrated_figure
from trainer.abstention import FACES_FOR_THRESHOLD, abstention_threshold
from trainer.metrics import as_year_ranges, exact_ages


logger = logging.getLogger(__name__)
PRIOR_FACES = 100  # the prior of temperatures and interval weighs as many faces
OPEN_RANGE_YEARS = 20


@dataclass
class Evidence:
    """Where a figure of the calibration comes from."""

    prior: float | str
    alone: float | str | None  # what these faces would give without the prior; None: nothing
    faces: int  # validation faces with the label that it needs
    faces_needed: int  # from this number on, the faces weigh at least as much as the prior
    weight: float  # of these faces in the figure, 0 to 1; the rest is the prior's


@dataclass
class SetCoverage:
    """What the fitted figures give on the validation faces of one set. None: no face has the label."""

    dataset: str
    faces: int
    exact_ages: int
    interval_coverage: float | None  # of the exact ages
    gender_answered: float | None
    gender_accuracy: float | None  # of those answered


@dataclass
class Calibration:
    """What was fitted on validation."""

    faces: int  # in the validation splits
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
    by_set: list[SetCoverage]

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
        for of_set in self.by_set if len(self.by_set) > 1 else ():
            covered, answered, correct = (
                "-" if share is None else f"{100 * share:.1f} %"
                for share in (of_set.interval_coverage, of_set.gender_answered, of_set.gender_accuracy)
            )
            lines.append(
                f"  {of_set.dataset}, {of_set.faces} faces: the interval covers {covered} of {of_set.exact_ages} exact ages; the "
                f"gender is answered for {answered}, and {correct} of these answers are correct"
            )
        logger.log(logging.WARNING if few else logging.INFO, "\n".join(lines))


def _share(weight: float) -> str:
    return {0.0: "kept", 1.0: "fitted"}.get(weight, f"shrunk, {100 * weight:.0f} % these faces")


def calibrate(
    trainer: Trainer,
    model: AgeGenderModel,
    validation: Sequence[tuple[str, Dataset]],
    gender_target_accuracy: float,
    finetuned_from: str | None = None,
) -> Calibration:
    """Fit the calibration on the trainer's predictions for `validation`, and write it into `model` in place.

    Args:
        model: holds all weights of the trainer's own, which may be sharded.
        validation: name and decoded validation faces of each set.
        gender_target_accuracy: see `trainer.abstention.abstention_threshold`.
        finetuned_from: name of the model whose calibration `model` began with; None for one from scratch.
    """
    predictions: list[Any] = [trainer.predict(faces, metric_key_prefix="validation") for _, faces in validation]
    calibration = fit_calibration(
        np.concatenate([one.predictions[0] for one in predictions]),
        np.concatenate([one.predictions[2] for one in predictions]),
        np.concatenate([as_year_ranges(one.label_ids[0]) for one in predictions]),
        np.concatenate([one.label_ids[1] for one in predictions]),
        model.config,
        gender_target_accuracy,
        finetuned_from,
        [(name, len(one.label_ids[1])) for (name, _), one in zip(validation, predictions, strict=True)],
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
    set_sizes: Sequence[tuple[str, int]] = (),
) -> Calibration:
    """Fit all of it on the predictions for the validation splits: all faces together, but for the interval, whose mass is
    what the hardest set asks for, of those with `PRIOR_FACES` exact ages or more, before the prior is mixed in.

    Args:
        age_logits: (N, years), of a model that is not calibrated yet, or that began with the calibration of another one.
        gender_logits: (N, 2), of the same model.
        age_labels: (N,) years or (N, 2) inclusive ranges; -100 where unknown. Only exact ages are used where there is one;
            else the interval is fitted to an age drawn evenly from each range, which makes it rather too wide than too narrow.
        gender_labels: (N,); -100 where unknown.
        config: holds the coverage of the interval, and the prior of the other figures.
        gender_target_accuracy: see `trainer.abstention.abstention_threshold`. Below the threshold the model abstains.
        finetuned_from: name of the model that `config` was read from; None for one from scratch.
        set_sizes: name and number of faces of each set, in the order of the faces; by default they are of one.
    """
    set_sizes = set_sizes or [("validation", len(age_labels))]
    set_of = np.repeat(np.arange(len(set_sizes)), [faces for _, faces in set_sizes])
    years = exact_ages(age_labels)
    exact, known = years != IGNORE_INDEX, gender_labels != IGNORE_INDEX
    years, genders = years[exact], gender_labels[known]
    exact_logits, known_logits = age_logits[exact], gender_logits[known]

    temperatures, evidence = {}, {}
    for name, logits, labels in (
        ("age_temperature", exact_logits, years),
        ("gender_temperature", known_logits, genders),
    ):
        temperatures[name] = fit_temperature(logits, labels, PRIOR_FACES)
        alone = fit_temperature(logits, labels) if len(labels) else None
        evidence[name] = Evidence(1.0, alone, len(labels), PRIOR_FACES, weight_of(labels))

    age_probs = softmax(exact_logits / temperatures["age_temperature"])
    errors = {
        name: float(np.abs(estimate_age(age_probs, name) - years).mean()) for name in ("median", "mean") if len(years)
    }
    best = min(errors, key=lambda name: errors[name], default=None)
    is_clear = best is not None and len(years) >= PRIOR_FACES
    estimate = best if best and is_clear else config.age_estimate
    evidence["age_estimate"] = Evidence(config.age_estimate, best, len(years), PRIOR_FACES, float(is_clear))

    fitted_ages, fitted_probs, fitted_sets = years, age_probs, set_of[exact]
    if not len(years):  # the interval can be fitted to ranges too
        drawn = _drawn_ages(age_labels, config.max_age)
        known_range = drawn != IGNORE_INDEX
        fitted_ages, fitted_sets = drawn[known_range], set_of[known_range]
        fitted_probs = softmax(age_logits[known_range] / temperatures["age_temperature"])
    mass = _mass_for_each_set(fitted_probs, fitted_ages, fitted_sets, config.interval_coverage)
    own, prior_mass, faces = weight_of(fitted_ages), config.interval_mass, len(fitted_ages)
    evidence["interval_mass"] = Evidence(prior_mass, mass if faces else None, faces, PRIOR_FACES, own)
    mass = own * mass + (1 - own) * prior_mass

    gender_probs = softmax(known_logits / temperatures["gender_temperature"])
    confidence, is_correct = gender_probs.max(axis=1), gender_probs.argmax(axis=1) == genders
    threshold = abstention_threshold(confidence, is_correct, gender_target_accuracy, config.gender_threshold)
    evidence["gender_threshold"] = Evidence(
        *(config.gender_threshold, threshold.proved, len(genders), FACES_FOR_THRESHOLD),
        float(threshold.value != config.gender_threshold),
    )

    low, high = age_interval(age_probs, mass).T
    is_covered, is_answered = (low <= years) & (years <= high), confidence >= threshold.value
    by_set = []
    for index, (name, faces) in enumerate(set_sizes):
        covered, answered = is_covered[set_of[exact] == index], is_answered[set_of[known] == index]
        correct = is_correct[set_of[known] == index][answered]
        by_set.append(SetCoverage(name, faces, len(covered), *map(_mean, (covered, answered, correct))))
    return Calibration(
        faces=len(age_labels),
        **temperatures,
        age_estimate=estimate,
        interval_coverage=config.interval_coverage,
        interval_mass=mass,
        gender_target_accuracy=gender_target_accuracy,
        gender_target_reached=threshold.is_reached,
        gender_threshold=threshold.value,
        gender_answered=threshold.answered,
        prior=finetuned_from,
        evidence=evidence,
        by_set=by_set,
    )


def _mass_for_each_set(age_probs: np.ndarray, years: np.ndarray, set_of: np.ndarray, coverage: float) -> float:
    """The smallest mass whose interval covers each set that has `PRIOR_FACES` or more; all faces together where none has.

    A set with many faces would else decide alone, and the promise would not hold on pictures of another kind.
    """
    of_large_sets = [set_of == index for index in np.unique(set_of) if (set_of == index).sum() >= PRIOR_FACES]
    return max(
        conformal_mass(age_probs[faces], years[faces], coverage)
        for faces in of_large_sets or [np.full(len(years), True)]
    )


def _drawn_ages(age_labels: np.ndarray, max_age: int) -> np.ndarray:
    """(N,) an age drawn evenly from each labelled range, -100 where nothing is known. The last range, which is open, counts as
    `OPEN_RANGE_YEARS`: hardly anybody is older.
    """
    low, high = as_year_ranges(age_labels).T
    high = np.where(high >= max_age, np.minimum(high, low + OPEN_RANGE_YEARS - 1), high)
    return np.where(
        low == IGNORE_INDEX, IGNORE_INDEX, np.random.default_rng(0).integers(low, np.maximum(high, low) + 1)
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


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
