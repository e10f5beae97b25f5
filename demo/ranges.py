"""The visitor's choice of age ranges, and the same prediction summed into them."""

import numpy as np

from model.configuration_age_gender import RANGE_SETS, age_range_label, parse_age_ranges
from model.decoding_age_gender import range_probabilities


CHOICES = [(f"{name}: {ranges}", name) for name, ranges in RANGE_SETS.items()]
DEFAULT_CHOICE = "FairFace-9"


def read_ranges(choice: str | None, max_age: int) -> list[list[int]]:
    """The name of a set, or ranges as typed; nothing means FairFace-9.

    Raises:
        ValueError: the ranges are no text, are not understood, overlap or leave a gap.
    """
    if choice is not None and not isinstance(choice, str):
        raise ValueError(f"Expected the age ranges as text, such as 0-17, 18+; got {type(choice).__name__}.")
    choice = (choice or "").strip() or DEFAULT_CHOICE
    return parse_age_ranges(RANGE_SETS.get(choice, choice), max_age)


def rebin(face: dict, ranges: list[list[int]], max_age: int) -> dict:
    """A copy of the pipeline's answer for one face with its years summed into other ranges; exact, without the model."""
    if face["year_probabilities"] is None:  # the pipeline abstained
        return face
    probabilities = range_probabilities(np.array([face["year_probabilities"]]), ranges)[0]
    labels = [age_range_label(low, high, max_age) for low, high in ranges]
    return {
        **face,
        "age_range": labels[int(probabilities.argmax())],
        "age_ranges": dict(zip(labels, probabilities.tolist(), strict=True)),
    }
