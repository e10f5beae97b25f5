"""The losses of both heads, and age ranges as sums of years."""

import torch
from torch.nn import functional as F

from .configuration_age_gender import AgeGenderConfig


IGNORE_INDEX = -100  # an unknown label, as in torch's cross_entropy
# Of two years in a range without an end, the later one has this share of the earlier one's people: of the world's people over
# 70 there are about 0.64 times as many in each five years as in the five before (UN World Population Prospects, 2022).
OPEN_RANGE_DECLINE = 0.915


def sum_into_ranges(age_logits: torch.Tensor, age_ranges: list[list[int]]) -> torch.Tensor:
    """(B, years) -> (B, ranges): log of the summed exponentials, so that a softmax over ranges sums the years exactly."""
    return torch.stack([age_logits[:, low : high + 1].logsumexp(dim=1) for low, high in age_ranges], dim=1)


def age_loss(age_logits: torch.Tensor, age_labels: torch.Tensor, config: AgeGenderConfig) -> torch.Tensor:
    """Label distribution learning over years (Gao et al., 2017), plus `range_loss_weight` times cross-entropy on ranges.

    The target of a face labelled with a year is a narrow Gaussian around it; the loss of a face labelled with a range is
    the negative log-probability of that range. Faces without an age are skipped.

    A range alone leaves open which of its years are likely: all of "70+" may become 110. `range_uniformity_weight` adds the
    divergence from years that are equally likely, or become rarer by `OPEN_RANGE_DECLINE` where the range has no end.

    Args:
        age_logits: (B, years). age_labels: (B,) years or (B, 2) inclusive ranges; -100 where unknown.
    """
    low, high = (age_labels, age_labels) if age_labels.dim() == 1 else age_labels.unbind(dim=1)
    known = low != IGNORE_INDEX
    log_probs = age_logits.float().log_softmax(dim=1)  # (B, years)
    years = torch.arange(log_probs.shape[1], device=log_probs.device)
    low, high = low.clamp(min=0)[:, None], high.clamp(min=0)[:, None]  # (B, 1); unknown labels get weight 0 below

    target = (-((years - low) ** 2) / (2 * config.age_sigma_years**2)).softmax(dim=1)
    is_inside = (years >= low) & (years <= high)
    inside = log_probs.masked_fill(~is_inside, float("-inf")).logsumexp(dim=1)
    losses = torch.where((low == high).squeeze(1), -(target * log_probs).sum(dim=1), -inside)
    if config.range_uniformity_weight:
        decline = torch.where(high == config.max_age, OPEN_RANGE_DECLINE, 1.0)
        prior = is_inside * decline ** (years - low).clamp(min=0)
        expected = prior / prior.sum(dim=1, keepdim=True)
        divergence = inside + F.kl_div(log_probs, expected, reduction="none").sum(dim=1)  # 0 for a range of one year
        losses = losses + config.range_uniformity_weight * divergence
    if config.range_loss_weight:
        # torch.tensor(device=) would force a device synchronisation
        starts = torch.tensor([start for start, _ in config.age_ranges]).to(low.device, non_blocking=True)
        first, last = (torch.bucketize(year.squeeze(1), starts, right=True) - 1 for year in (low, high))
        range_losses = F.cross_entropy(sum_into_ranges(log_probs, config.age_ranges), first, reduction="none")
        # a label that spans two ranges gives no target for this loss
        losses = losses + config.range_loss_weight * range_losses * (first == last)

    weights = known.float()
    if config.age_weights is not None:
        age_weights = torch.tensor(config.age_weights).to(weights.device, non_blocking=True)
        weights = weights * age_weights[((low + high) // 2).squeeze(1)]
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def class_loss(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy over the faces with a known label; 0, with a gradient, for a batch without any.

    Args:
        logits: (B, classes). labels: (B,); -100 where unknown.
    """
    losses = F.cross_entropy(
        logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=label_smoothing
    )
    return losses / (labels != IGNORE_INDEX).sum().clamp(min=1)
