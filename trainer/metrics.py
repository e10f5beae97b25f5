"""The scores of both heads: an `evaluate.Metric` that works offline, the Trainer's `compute_metrics` on validation, and the
losses and scores over the batches between two records of the Trainer's log.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import datasets
import evaluate
import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, roc_auc_score
from transformers import EvalPrediction

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import estimate_age, range_probabilities, softmax
from model.losses_age_gender import IGNORE_INDEX


Gather = Callable[[torch.Tensor], torch.Tensor]  # (1, n) of each process -> (processes, n)
Mode = Literal["train", "eval"]
# What an evaluation during training returns: the losses, and the keys of `build_compute_metrics`.
METRICS = (
    *("loss", "age_loss", "gender_loss"),
    *("age_mae", "age_cs5", "age_range_accuracy", "age_range_within_one", "age_range_f1"),
    *("gender_accuracy", "gender_auc", "gender_f1"),
)


def as_year_ranges(age_labels: np.ndarray) -> np.ndarray:
    """(N,) whole years or (N, 2) inclusive ranges of years -> (N, 2) ranges; -100 where unknown."""
    age_labels = np.asarray(age_labels)
    return np.stack([age_labels, age_labels], axis=1) if age_labels.ndim == 1 else age_labels


def exact_ages(age_labels: np.ndarray) -> np.ndarray:
    """(N,) or (N, 2) labels -> (N,) years; -100 where the age is unknown or known as a range only."""
    years = as_year_ranges(age_labels)
    return np.where(years[:, 0] == years[:, 1], years[:, 0], IGNORE_INDEX)


def range_indices(age_labels: np.ndarray, age_ranges: Sequence[Sequence[int]]) -> np.ndarray:
    """(N,) or (N, 2) labels -> (N,) index into `age_ranges`.

    -100 where the age is unknown, and where a label that is itself a range overlaps two of `age_ranges`: a face of "3-9"
    may be in "3-5" or in "6-10", so it counts in neither.
    """
    low, high = as_year_ranges(age_labels).T
    starts = np.array([start for start, _ in age_ranges])
    first, last = (np.searchsorted(starts, years, side="right") - 1 for years in (low, high))
    return np.where((low >= 0) & (first == last), first, IGNORE_INDEX)


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean F1 over the classes that have at least one labelled face."""
    return float(f1_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


class AgeGenderMetric(evaluate.Metric):
    """Age error, age-range and gender scores from probabilities. Scores without any labelled face are left out.

    Computed in memory; nothing is downloaded. Batches may be added one by one with `add_batch`.

    Example:
        >>> metric = AgeGenderMetric(AgeGenderConfig())
        >>> metric.compute(age_probs=np.eye(117)[[30, 41]], gender_probs=np.eye(2),
        ...                age_labels=[[30, 30], [39, 39]], gender_labels=[0, 1])["age_mae"]
        1.0
    """

    def __init__(self, config: AgeGenderConfig):
        self.age_ranges, self.age_estimate = config.age_ranges, config.age_estimate
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Age MAE, CS@5; age-range accuracy, 1-off accuracy, macro F1; gender accuracy, AUC, macro F1.",
            citation="",
            inputs_description=(
                "\nage_probs: (N, years); gender_probs: (N, 2); age_labels: (N, 2) inclusive years; "
                "gender_labels: (N,); -100 where a label is unknown."
            ),
            features=datasets.Features(
                {
                    "age_probs": datasets.List(datasets.Value("float64")),
                    "gender_probs": datasets.List(datasets.Value("float64")),
                    "age_labels": datasets.List(datasets.Value("int32")),
                    "gender_labels": datasets.Value("int32"),
                }
            ),
        )

    def _compute(
        self, age_probs: ArrayLike, gender_probs: ArrayLike, age_labels: ArrayLike, gender_labels: ArrayLike
    ) -> dict[str, float]:
        age_probs, gender_probs = np.array(age_probs), np.array(gender_probs)
        age_labels, gender_labels = np.array(age_labels), np.array(gender_labels)
        return (
            age_scores(estimate_age(age_probs, self.age_estimate), exact_ages(age_labels))
            | age_range_scores(
                range_probabilities(age_probs, self.age_ranges), range_indices(age_labels, self.age_ranges)
            )
            | gender_scores(gender_probs, gender_labels)
        )


def age_scores(age_years: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """(N,) estimates, (N,) years or -100 -> mean absolute error in years, cumulative score CS@5 (error of at most 5)."""
    known = labels != IGNORE_INDEX
    if not known.any():
        return {}
    return {
        "age_mae": float(mean_absolute_error(labels[known], age_years[known])),
        "age_cs5": float((np.abs(age_years[known] - labels[known]) <= 5).mean()),
    }


def age_range_scores(range_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """(N, ranges) probabilities, (N,) index or -100 -> accuracy, 1-off accuracy (adjacent ranges count), macro F1."""
    known = labels != IGNORE_INDEX
    if not known.any():
        return {}
    labels, predictions = labels[known], range_probs[known].argmax(axis=1)
    return {
        "age_range_accuracy": float(accuracy_score(labels, predictions)),
        "age_range_within_one": float((np.abs(labels - predictions) <= 1).mean()),
        "age_range_f1": macro_f1(labels, predictions),
    }


def gender_scores(gender_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """(N, 2) probabilities, (N,) index or -100 -> accuracy, macro F1, and AUC where both genders are labelled."""
    known = labels != IGNORE_INDEX
    if not known.any():
        return {}
    labels, probs = labels[known], gender_probs[known]
    scores = {
        "gender_accuracy": float(accuracy_score(labels, probs.argmax(axis=1))),
        "gender_f1": macro_f1(labels, probs.argmax(axis=1)),
    }
    if len(np.unique(labels)) == 2:
        scores["gender_auc"] = float(roc_auc_score(labels, probs[:, 1]))
    return scores


def build_compute_metrics(config: AgeGenderConfig) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` for a Trainer whose model returns (age_logits, age_range_logits, gender_logits).

    Labels are (age_labels (N,) or (N, 2), gender_labels (N,)). It returns those of `METRICS` that are no losses.
    """

    def compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
        # transformers types both as tuples of a single array
        age_logits, _, gender_logits = evaluation.predictions[:3]  # type: ignore[misc]
        age_labels, gender_labels = evaluation.label_ids  # type: ignore[misc]
        return AgeGenderMetric(config).compute(
            age_probs=softmax(age_logits.astype(np.float64)),
            gender_probs=softmax(gender_logits.astype(np.float64)),
            age_labels=as_year_ranges(age_labels),
            gender_labels=gender_labels,
        )

    return compute_metrics


class RunningScores:
    """Sums since the last record, which may never come. They stay on the device: reading one forces a synchronisation."""

    def __init__(self) -> None:
        self._loss_sums: dict[Mode, dict[str, torch.Tensor]] = {"train": {}, "eval": {}}
        self._batches: Counter[Mode] = Counter()
        self._train_scores: torch.Tensor | None = None

    def add_losses(self, mode: Mode, losses: dict[str, torch.Tensor]) -> None:
        """The losses of one batch, by the names that the log gives them."""
        sums = self._loss_sums[mode]
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach().float()
        self._batches[mode] += 1

    def add_scores(self, scores: torch.Tensor) -> None:
        """The (4,) `batch_scores` of a training batch."""
        self._train_scores = scores if self._train_scores is None else self._train_scores + scores

    def pop_losses(self, mode: Mode, gather: Gather) -> dict[str, float]:
        """The mean of each loss over the batches of all processes; empty where there was no batch."""
        if not self._batches[mode]:
            return {}
        sums, self._loss_sums[mode] = self._loss_sums[mode], {}
        means = torch.stack([*sums.values()])[None] / self._batches.pop(mode)
        means = gather(means).view(-1, len(sums)).mean(dim=0)
        return dict(zip(sums, means.tolist(), strict=True))

    def pop_scores(self, gather: Gather) -> dict[str, float]:
        """`age_mae` in years and `gender_accuracy` over the training batches, where they had such labels."""
        if self._train_scores is None:
            return {}
        scores, self._train_scores = self._train_scores[None], None
        error, ages, correct, genders = gather(scores).view(-1, 4).sum(dim=0).tolist()
        logs = {}
        if ages:
            logs["age_mae"] = error / ages
        if genders:
            logs["gender_accuracy"] = correct / genders
        return logs


@torch.no_grad()
def batch_scores(
    age_logits: torch.Tensor, gender_logits: torch.Tensor, age_labels: torch.Tensor, gender_labels: torch.Tensor
) -> torch.Tensor:
    """(4,): sum of the absolute age errors in years, numbers of exact ages, of correct genders and of labelled genders.

    Stays on the device, and reads no value: that would force a synchronisation. The age is the year in which the
    distribution's median lies.

    Args:
        age_logits: (B, years). gender_logits: (B, 2).
        age_labels: (B,) years or (B, 2) inclusive ranges of years; -100 where unknown.
        gender_labels: (B,); -100 where unknown.
    """
    low, high = age_labels.expand(2, -1) if age_labels.ndim == 1 else age_labels.T
    is_exact, is_labelled = (low >= 0) & (low == high), gender_labels >= 0
    years = (age_logits.float().softmax(dim=-1).cumsum(dim=-1) < 0.5).sum(dim=-1)
    is_correct = gender_logits.argmax(dim=-1) == gender_labels
    parts = ((years - low).abs() * is_exact, is_exact, is_correct & is_labelled, is_labelled)
    return torch.stack([part.sum() for part in parts]).float()
