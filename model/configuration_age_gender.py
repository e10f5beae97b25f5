"""Configuration of the two-head age-and-gender classifier, and the age ranges it can answer in."""

import operator
import os
import re
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, ViTConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_checks import check_file_values, check_numbers
from .errors import AgeGenderError
from .model_files import ModelFileError, check_parsed_files, one_line


TASK = "age-gender-classification"  # the pipeline's name in transformers
MAX_AGE = 116  # the oldest age in UTKFace

# Sets in common use. Accuracies on two different sets cannot be compared.
RANGE_SETS = {
    "FairFace-9": "0-2, 3-9, 10-19, 20-29, 30-39, 40-49, 50-59, 60-69, 70+",
    "DIT825-5": "0-24, 25-49, 50-74, 75-99, 100+",
    "14 ranges": "0-2, 3-5, 6-10, 11-14, 15-17, 18-22, 23-27, 28-33, 34-40, 41-50, 51-60, 61-70, 71-80, 81+",
    "4 bins": "0-17, 18-39, 40-59, 60+",
}

# The alignment template: the mean of the five landmarks that YuNet finds on UTKFace's aligned crops, as fractions of the
# crop's side. Eye, eye, nose, mouth corner, mouth corner, the viewer's left first.
UTKFACE_LANDMARKS_XY = [[0.2995, 0.2835], [0.6870, 0.2795], [0.5065, 0.5025], [0.3255, 0.6750], [0.6660, 0.6715]]


def parse_age_ranges(ranges: str | Sequence[str] | Sequence[Sequence[int]], max_age: int = MAX_AGE) -> list[list[int]]:
    """Read age ranges in any of the ways that people and files give them.

    Args:
        ranges: the name of a set in `RANGE_SETS`; text such as `"0-17, 18-39, 40+"`, in one string or one a range; or
            inclusive pairs of years, such as `[[0, 17], [18, 39], [40, 116]]`.

    Returns:
        Inclusive `[low, high]` years that cover 0 to `max_age` in order, each year once.

    Raises:
        AgeGenderError: a part is not a range, or the ranges overlap or do not cover all years. The message names the
            first mistake and how to correct it.
    """
    if not isinstance(ranges, Sequence):
        raise AgeGenderError(f"Expected age ranges such as '0-17, 18+' or [[0, 17], [18, {max_age}]]; got {ranges!r}.")
    if isinstance(ranges, str):
        ranges = [part for part in re.split(r"[,;\n]", RANGE_SETS.get(ranges, ranges)) if part.strip()]
    pairs = [_parse_range(part, max_age) for part in ranges]
    _check_coverage(pairs, max_age)
    return pairs


def _parse_range(part: Any, max_age: int) -> list[int]:
    """`"0-17"`, `"40+"`, `"5"` (a single year) or `[0, 17]`."""
    if isinstance(part, str):
        match = re.fullmatch(r"(\d+)\s*(?:[-–]\s*(\d+)|(\+))?", part.strip())
        if match is None:
            raise AgeGenderError(f"Age range {part.strip()!r} is not understood. Write ranges as '0-17, 18-39, 40+'.")
        low, high, is_open = int(match[1]), match[2], match[3]
        return [low, max_age if is_open else int(high) if high else low]
    try:
        low, high = map(operator.index, part)
    except (TypeError, ValueError):
        raise AgeGenderError(f"Expected an age range as two whole years, [low, high]; got {part!r}.") from None
    return [low, high]


def _check_coverage(ranges: list[list[int]], max_age: int) -> None:
    """Inclusive `ranges` must cover 0 to `max_age` years in order, without gap or overlap."""
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


def age_range_label(low: int, high: int, max_age: int = MAX_AGE) -> str:
    """`"20-29"`; `"70+"` for the range that ends at `max_age`; `"5"` for a single year."""
    if high == max_age:
        return f"{low}+"
    return f"{low}-{high}" if high > low else str(low)


@strict
class AgeGenderConfig(PreTrainedConfig):
    r"""
    backbone_config: configuration of a vision backbone in transformers (docs/backbones.md lists them); a ViT by default.
        Of a model of pictures and texts it becomes that of its vision tower: see `picture_encoder`.
    stem_channels: channels of the stride-2 convolutions that replace a ViT's patch projection; None keeps it.
    pooling: `"mean"` over all tokens, the class token included, or `"cls"`, the class token, of networks that have
        one.
    image_size: side in pixels of the square crop that is the model's input.
    max_age: the age head has one output a year, 0 to `max_age`.
    age_ranges: inclusive `[low, high]` years; they must cover 0 to `max_age`. Changing them needs no retraining.
        FairFace's nine by default.
    gender_names: names of the outputs of the gender head. The labels are binary and by appearance.
    age_sigma_years: standard deviation, in years, of the Gaussian target around the labelled year.
    age_weights: weight of each year in the age loss, `max_age + 1` numbers; None gives all the same weight.
    range_loss_weight, gender_loss_weight: weights of these losses; the year loss has weight 1.
    range_uniformity_weight: how strongly the years of a labelled range are expected to be equally likely.
    gender_label_smoothing: fraction of the gender target that is spread over both outputs in training.
    head_dropout: dropout probability of the pooled features before both heads.
    flip_tta: average the logits of each crop and its horizontal flip (test-time augmentation): twice the computation.
    landmarks_xy: where the eyes, the nose and the mouth corners lie on the crop, (5, 2) fractions of its side, the
        viewer's left first. `UTKFACE_LANDMARKS_XY` by default.
    cascade_crop: corners x0, y0, x1, y1 of the crop as fractions of a Haar cascade's box, which has no landmarks; None
        takes those measured for `UTKFACE_LANDMARKS_XY`.
    age_estimate: statistic of the year distribution that is the estimated age; chosen on the validation split.
    interval_coverage: fraction of faces whose labelled age the age interval should contain.
    interval_mass: central mass of the year distribution, fitted to reach `interval_coverage` on the validation faces.
    gender_threshold: abstention threshold: below this probability the gender is "unsure".
    min_face_pixels: the pipeline abstains on faces whose box is narrower than this.

    Example:
        >>> AgeGenderConfig(age_ranges=[[0, 17], [18, 116]]).age_range_labels
        ['0-17', '18+']
    """

    model_type = "age_gender"
    attribute_map = {"mirror_average": "flip_tta"}  # the key that older config.json files use
    keys_to_ignore_at_inference = ["age_loss", "gender_loss", "hidden_states", "attentions"]
    sub_configs_defaults = {"backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="vit")}

    backbone_config: dict | PreTrainedConfig | None = None
    stem_channels: list[int] | None = None
    pooling: Literal["mean", "cls"] = "mean"
    image_size: int = 224
    max_age: int = MAX_AGE
    age_ranges: list[list[int]] = field(default_factory=list)
    gender_names: list[str] | tuple[str, ...] = ("male", "female")

    age_sigma_years: float | int = 2.0
    age_weights: list[float] | None = None
    range_loss_weight: float | int = 0.0
    range_uniformity_weight: float | int = 0.0
    gender_loss_weight: float | int = 1.0
    gender_label_smoothing: float | int = 0.0
    head_dropout: float | int = 0.0

    flip_tta: bool = False
    landmarks_xy: list[list[float]] = field(default_factory=list)
    cascade_crop: list[float] | None = None

    age_estimate: Literal["median", "mean"] = "median"
    interval_coverage: float = 0.8
    interval_mass: float = 0.8
    gender_threshold: float = 0.5
    min_face_pixels: int = 24

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        assert isinstance(self.backbone_config, PreTrainedConfig)  # made of a dict or of None by super().__post_init__
        self.backbone_config = picture_encoder(self.backbone_config)
        self.gender_names = list(self.gender_names)
        self.landmarks_xy = self.landmarks_xy or UTKFACE_LANDMARKS_XY
        check_numbers(self)
        self.set_age_ranges(self.age_ranges or "FairFace-9")

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Any:
        """The values that `from_pretrained` reads. Raises `ModelFileError` where they cannot be read."""
        name = pretrained_model_name_or_path
        check_parsed_files(name, kwargs.get("revision"), kwargs.get("token"))
        try:
            values, others = super().get_config_dict(name, **kwargs)
        except Exception as error:  # a damaged file fails in many ways
            raise ModelFileError(f"The configuration of {name} cannot be read: {one_line(error)}") from error
        check_file_values(values)  # as `from_dict` does: a teacher's type is read before a configuration is made of it
        return values, others

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """
        Raises:
            ModelFileError: as `check_file_values`, or a value has another type than it must have.
            AgeGenderError: age ranges that leave a gap.
        """
        check_file_values(config_dict)
        try:
            return super().from_dict(config_dict, **kwargs)
        except AgeGenderError:
            raise
        except Exception as error:  # transformers' checks and each backbone's own raise many types
            raise ModelFileError(f"config.json describes no age-and-gender model: {one_line(error)}") from error

    def set_age_ranges(self, ranges: str | Sequence[str] | Sequence[Sequence[int]]) -> None:
        """Replace the ranges, in any form that `parse_age_ranges` reads. Raises `AgeGenderError` as it does."""
        self.age_ranges = parse_age_ranges(ranges, self.max_age)
        # Tools that read a classifier's label names find the ranges here instead of LABEL_0.
        self.id2label = dict(enumerate(self.age_range_labels))
        self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def age_range_labels(self) -> list[str]:
        return [age_range_label(low, high, self.max_age) for low, high in self.age_ranges]


def load_backbone_config(name_or_path: str) -> PreTrainedConfig:
    """The configuration of a network of transformers, without code of its repository.

    Raises:
        ModelFileError: as `check_parsed_files` and `check_file_values`.
        OSError, ValueError, ImportError: transformers' own, where there is none that it knows.
    """
    check_parsed_files(name_or_path)
    values, _ = PreTrainedConfig.get_config_dict(name_or_path)
    check_file_values(values)
    return AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)


def picture_encoder(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a network that sees pictures and answers alike each time.

    Returns:
        The vision tower of CLIP, SigLIP and other models with a `<model_type>_vision_model`. For a ViT-MAE the ViT that has
        its weights: ViT-MAE itself leaves out three quarters of the patches at random, when it answers too. For all
        others `config`.
    """
    if config.model_type == "vit_mae":
        names = {one.name for one in fields(ViTConfig)}
        return ViTConfig(**{name: value for name, value in config.to_dict().items() if name in names})
    tower = getattr(config, "vision_config", None)
    is_tower = isinstance(tower, PreTrainedConfig) and tower.model_type == f"{config.model_type}_vision_model"
    return tower if is_tower else config  # type: ignore[return-value]


AgeGenderConfig.register_for_auto_class()
