"""Checks of a config.json that somebody else wrote: it describes a network, and may neither load code nor fill the memory."""

import math
from typing import Any

from .model_files import ModelFileError, one_line


MAX_AGE_LIMIT, MAX_IMAGE_SIZE, MAX_GENDERS = 200, 1024, 16  # years, pixels (12 MB a face), outputs
MAX_FACE_PIXELS = 4096
MAX_NUMBER, MAX_COUNT, MAX_LIST = 1_000_000, 4096, 10_000  # of widths and the like; of layers; of entries
COUNTS = ("num_", "depth", "layers", "blocks")  # in the name of a value that says how many modules are built
LABEL_KEYS = ("label2id", "id2label")  # of the 21,841 classes of ImageNet, say
ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
# Others, such as a repository of kernels on the Hub, make transformers fetch code and run it.
ATTENTIONS = (None, "eager", "sdpa", "flex_attention")
LOADER_KEYS = (
    *("quantization_config", "fusion_config", "kernel_config", "distributed_config", "transformers_weights"),
    *("use_pretrained_backbone", "experts_implementation", "_experts_implementation", "tp_plan"),
)


def check_file_values(values: Any, name: str = "config.json") -> None:
    """
    Args:
        values: what the JSON file holds.
        name: what messages call it.

    Raises:
        ModelFileError: it is no table of values, asks the loader for something else than to read this network's weights, or
            describes a network that is far too large.
    """
    if not isinstance(values, dict):
        raise ModelFileError(f"Expected a table of values in {name}; it holds a {type(values).__name__}.")
    for key, value in ((str(key), value) for key, value in values.items()):
        where = f"{key!r} of {name}"
        if key in ATTENTION_KEYS and (isinstance(value, dict) or value not in ATTENTIONS):
            raise ModelFileError(
                f"{where} is {one_line(repr(value))}, which may fetch code: expected eager, sdpa or flex_attention. Give "
                "others as attn_implementation when you load the model."
            )
        if key in LOADER_KEYS and value:
            raise ModelFileError(f"{where} changes how weights are loaded, and is not allowed: remove it.")
        if key in LABEL_KEYS:  # a label may be "building blocks"
            continue
        if any(word in key for word in COUNTS) and _total(value) > MAX_COUNT:
            raise ModelFileError(f"{where} is {_total(value):,}; at most {MAX_COUNT:,} were expected.")
        _check_sizes(value, where)


def check_numbers(config: Any) -> None:
    """
    Args:
        config: an `AgeGenderConfig`.

    Raises:
        ModelFileError: a value is out of the range that can be meant.
    """
    for name, low, high in (
        ("max_age", 1, MAX_AGE_LIMIT),
        ("image_size", 8, MAX_IMAGE_SIZE),
        ("min_face_pixels", 0, MAX_FACE_PIXELS),
        ("age_sigma_years", 0, MAX_AGE_LIMIT),
        ("interval_coverage", 0, 1),
        ("interval_mass", 0, 1),
        ("gender_threshold", 0, 1),
        ("gender_label_smoothing", 0, 1),
        ("head_dropout", 0, 1),
        ("range_loss_weight", 0, MAX_NUMBER),
        ("range_uniformity_weight", 0, MAX_NUMBER),
        ("gender_loss_weight", 0, MAX_NUMBER),
    ):
        value = getattr(config, name)
        if not low <= value <= high:  # false for NaN too
            raise ModelFileError(f"Expected {name} from {low} to {high:,}; got {value:,}.")
    names = config.gender_names
    if not 1 <= len(names) <= MAX_GENDERS or len(set(names)) < len(names):
        raise ModelFileError(f"Expected 1 to {MAX_GENDERS} different gender_names; got {len(names)}.")
    shapes = {"landmarks_xy": (5, 2), "cascade_crop": (4,), "age_weights": (config.max_age + 1,)}
    for name, shape in shapes.items():
        value = getattr(config, name)
        if value is not None and not _is_of_shape(value, shape):
            raise ModelFileError(f"Expected {' x '.join(map(str, shape))} finite numbers in {name}; got others.")
    if config.stem_channels is not None and not (
        1 <= len(config.stem_channels) <= 8 and all(1 <= width <= MAX_COUNT for width in config.stem_channels)
    ):
        raise ModelFileError(f"Expected 1 to 8 stem_channels of 1 to {MAX_COUNT:,}; got {config.stem_channels}.")


def _check_sizes(value: Any, where: str) -> None:
    """Of nested values too."""
    if isinstance(value, dict):
        check_file_values(value, where)
    elif isinstance(value, list):
        if len(value) > MAX_LIST:
            raise ModelFileError(f"{where} has {len(value):,} entries; at most {MAX_LIST:,} were expected.")
        for entry in value:
            _check_sizes(entry, where)
    elif isinstance(value, (int, float)) and abs(value) > MAX_NUMBER:
        raise ModelFileError(f"{where} is {value:,}; at most {MAX_NUMBER:,} was expected.")


def _total(value: Any) -> float:
    """The sum of the numbers in a value."""
    if isinstance(value, list):
        return sum(map(_total, value))
    return value if isinstance(value, (int, float)) else 0


def _is_of_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return (
        isinstance(value, (list, tuple)) and len(value) == shape[0] and all(_is_of_shape(v, shape[1:]) for v in value)
    )
