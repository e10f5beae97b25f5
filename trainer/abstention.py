"""The confidence below which a model abstains, chosen so that the answers above it reach a target accuracy."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm


FACES_FOR_THRESHOLD = 500  # from here on Wilson's interval is narrow: to prove the target costs few answers


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
        prior: the threshold before any face is seen; 0.5 answers every face of two genders.
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
