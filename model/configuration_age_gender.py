"""Configuration of the two-head age-and-gender classifier: backbone, label names, crop geometry, loss, calibration."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .errors import AgeGenderError


TASK = "age-gender-classification"  # as which transformers knows the pipeline
MAX_AGE = 116  # the oldest age in UTKFace

# Sets in common use. Accuracies on different sets cannot be compared with each other.
RANGE_SETS = {
    "FairFace-9": "0-2, 3-9, 10-19, 20-29, 30-39, 40-49, 50-59, 60-69, 70+",
    "DIT825-5": "0-24, 25-49, 50-74, 75-99, 100+",
    "14 ranges": "0-2, 3-5, 6-10, 11-14, 15-17, 18-22, 23-27, 28-33, 34-40, 41-50, 51-60, 61-70, 71-80, 81+",
    "4 bins": "0-17, 18-39, 40-59, 60+",
}

# Mean of the five landmarks YuNet finds on UTKFace's aligned chips, as fractions of the chip's side, viewer's left
# first: eye, eye, nose, mouth corner, mouth corner. Aligning a face onto it reproduces the training geometry.
UTKFACE_LANDMARKS_XY = [[0.2995, 0.2835], [0.6870, 0.2795], [0.5065, 0.5025], [0.3255, 0.6750], [0.6660, 0.6715]]


def parse_age_ranges(text: str | Iterable[str], max_age: int = MAX_AGE) -> list[list[int]]:
    """Read ranges as people write them: `"0-17, 18-39, 40+"` or `["0-17", "18-39", "40+"]` -> `[[0, 17], [18, 39], [40, 116]]`.

    Raises:
        AgeGenderError: a part is not a range, or the ranges overlap or do not cover 0 to `max_age` years.
    """
    parts = re.split(r"[,;\n]", text) if isinstance(text, str) else list(text)
    ranges = []
    for part in (part.strip() for part in parts if part.strip()):
        match = re.fullmatch(r"(\d+)\s*(?:[-–]\s*(\d+)|(\+))?", part)
        if match is None:
            raise AgeGenderError(f"Age range {part!r} is not understood. Write ranges as '0-17, 18-39, 40+'.")
        low, high, is_open = int(match[1]), match[2], match[3]
        ranges.append([low, max_age if is_open else int(high) if high else low])
    return check_age_ranges(ranges, max_age)


def check_age_ranges(ranges: Sequence[Sequence[int]], max_age: int = MAX_AGE) -> list[list[int]]:
    """Return `ranges` as lists of inclusive `[low, high]` years if they cover 0..`max_age` in order, without gap or overlap.

    Raises:
        AgeGenderError: it names the first gap, overlap or reversed range, and how to mend it.
    """
    expected = f"Age ranges must cover 0 to {max_age} years in order, each year once"
    if not ranges:
        raise AgeGenderError(f"{expected}; got none.")
    next_year = 0
    for low, high in ranges:
        if low > high:
            raise AgeGenderError(f"{expected}; {low}-{high} runs backwards: write {high}-{low}.")
        if low > next_year:
            gap = age_range_label(next_year, low - 1, max_age)
            raise AgeGenderError(f"{expected}; {gap} is in no range: add {gap}.")
        if low < next_year:
            raise AgeGenderError(f"{expected}; {low}-{high} overlaps the range before it: start it at {next_year}.")
        next_year = high + 1
    if next_year <= max_age:
        raise AgeGenderError(f"{expected}; the years from {next_year} on are in no range: end with {next_year}+.")
    if next_year > max_age + 1:
        raise AgeGenderError(f"{expected}; the last range ends at {next_year - 1}: end it at {max_age}, or write '+'.")
    return [list(pair) for pair in ranges]


def age_range_label(low: int, high: int, max_age: int = MAX_AGE) -> str:
    """`"20-29"`; `"70+"` for the range that ends at `max_age`; `"5"` for a single year."""
    if high == max_age:
        return f"{low}+"
    return f"{low}-{high}" if high > low else str(low)


@strict
class AgeGenderConfig(PreTrainedConfig):
    r"""
    backbone_config: configuration of any vision backbone in transformers; a ViT by default.
    stem_channels: channels of the stride-2 convolutions that replace a ViT's patch projection; None keeps it.
    pooling: `"mean"` over all tokens, the class token included, or `"cls"`, the first token.
    image_size: side in pixels of the square crop the model looks at.
    max_age: the age head has one output a year, 0 to `max_age`.
    age_ranges: inclusive `[low, high]` years; they must cover 0..`max_age`. Changing them needs no retraining.
    gender_names: names of the outputs of the gender head. What is annotated is binary appearance, nothing else.
    age_sigma_years: width of the Gaussian around the labelled year that the age head is trained on.
    age_weights: weight of each year in the age loss, `max_age + 1` numbers; None weighs all alike.
    range_loss_weight, gender_loss_weight: weights beside the year loss, which has weight 1.
    gender_label_smoothing: share of the gender target spread over both outputs while training.
    head_dropout: share of the pooled features that both heads do without in each training step.
    flip_tta: average the logits of each crop and its horizontal flip (test-time augmentation): twice the computation.
    landmarks_xy: where two eyes, nose and two mouth corners lie on the crop, as fractions of its side.
    cascade_crop: corners x0, y0, x1, y1 of the crop, as fractions of a Haar cascade's box, where no landmarks are known.
    age_estimate: how one number is read from the distribution of years; chosen on validation.
    interval_coverage: share of faces whose labelled age the age interval is meant to hold.
    interval_mass: central mass of the year distribution that reached `interval_coverage` on validation.
    gender_threshold: below this probability the answer is "unsure".
    min_face_pixels: faces whose box is narrower than this get no answer.

    Example:
        >>> AgeGenderConfig(age_ranges=[[0, 17], [18, 116]]).age_range_labels
        ['0-17', '18+']
    """

    model_type = "age_gender"
    attribute_map = {"mirror_average": "flip_tta"}  # its name in configurations saved before version 0.2
    keys_to_ignore_at_inference = ["age_loss", "gender_loss", "hidden_states", "attentions"]
    sub_configs_defaults = {"backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="vit")}

    backbone_config: dict | PreTrainedConfig | None = None
    stem_channels: list[int] | None = None
    pooling: Literal["mean", "cls"] = "mean"
    image_size: int = 224
    max_age: int = MAX_AGE
    age_ranges: list[list[int]] | None = None
    gender_names: list[str] | tuple[str, ...] = ("male", "female")

    age_sigma_years: float | int = 2.0
    age_weights: list[float] | None = None
    range_loss_weight: float | int = 0.0
    gender_loss_weight: float | int = 1.0
    gender_label_smoothing: float | int = 0.0
    head_dropout: float | int = 0.0

    flip_tta: bool = False
    landmarks_xy: list[list[float]] | None = None
    cascade_crop: list[float] | None = None

    age_estimate: Literal["median", "mean"] = "median"
    interval_coverage: float = 0.8
    interval_mass: float = 0.8
    gender_threshold: float = 0.5
    min_face_pixels: int = 24

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.gender_names = list(self.gender_names)
        self.landmarks_xy = self.landmarks_xy or UTKFACE_LANDMARKS_XY
        self.set_age_ranges(self.age_ranges or parse_age_ranges(RANGE_SETS["FairFace-9"], self.max_age))

    def set_age_ranges(self, ranges: Sequence[Sequence[int]]) -> None:
        """Answer in other ranges from now on. Raises `AgeGenderError` for ranges that leave a gap or overlap."""
        self.age_ranges = check_age_ranges(ranges, self.max_age)
        # Any tool that reads a classifier's names finds the ranges here instead of LABEL_0.
        self.id2label = dict(enumerate(self.age_range_labels))
        self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def age_range_labels(self) -> list[str]:
        return [age_range_label(low, high, self.max_age) for low, high in self.age_ranges]


AgeGenderConfig.register_for_auto_class()
