"""Losses and scores of both heads over the batches between two records of the Trainer's log."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

import torch


Gather = Callable[[torch.Tensor], torch.Tensor]  # (1, n) of each process -> (processes, n)
Mode = Literal["train", "eval"]


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
