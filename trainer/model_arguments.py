"""Which model is trained: the arguments that say so (a backbone or a model to fine-tune, two heads and their losses), and the
configuration that they ask for.
"""

import json
from dataclasses import dataclass, field, fields, replace
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from model.configuration_age_gender import MAX_AGE, AgeGenderConfig, load_backbone_config, parse_age_ranges
from trainer.recipe import RecipeError, did_you_mean


ARCHITECTURE_ARGUMENTS = ("stem_channels", "pooling")  # of these a fine-tuned model keeps its own
# Of these too, where they are not given.
INHERITED_ARGUMENTS = ("image_size", "head_dropout", "flip_tta")
CLASS_WEIGHTS = ("none", "sqrt", "balanced")
POOLINGS = ("mean", "cls")


@dataclass
class ModelArguments:
    """What is trained: a backbone, two heads and their losses."""

    finetune_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of an age-and-gender model to fine-tune, for other faces or other age ranges. Its "
            "architecture stays; image_size, age_ranges and the losses may change."
        },
    )
    finetune_revision: str | None = field(default=None, metadata={"help": "Revision of the Hub id in finetune_from."})
    backbone: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a pretrained vision backbone, which gets new heads."}
    )
    backbone_config: str | None = field(
        default=None, metadata={"help": "JSON configuration (with model_type) of a backbone trained from scratch."}
    )
    stem_channels: list[int] | None = field(
        default=None, metadata={"help": "Channels of stride-2 convolutions that replace a ViT's patch projection."}
    )
    pooling: str = field(
        default="mean", metadata={"help": "'mean' over the tokens, or 'cls', the class token, where there is one."}
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Side in pixels of the model's input crop. Default: that of finetune_from, else 224."},
    )
    train_image_size: int | None = field(
        default=None, metadata={"help": "Side in pixels at which training pictures are stored. Default: image_size."}
    )
    train_resolutions: list[int] | None = field(
        default=None,
        metadata={
            "help": "Sides in pixels to train at sequentially, each for an equal share of the steps, such as "
            "64 96 112. Default: image_size throughout."
        },
    )
    age_ranges: list[str] | None = field(
        default=None,
        metadata={"help": "Such as 0-17 18-39 40+. Default: those of finetune_from, else FairFace's nine."},
    )
    age_sigma_years: float = field(default=2.0, metadata={"help": "Width of the Gaussian around the labelled year."})
    age_class_weights: str = field(
        default="none", metadata={"help": "Weight of rare age ranges: 'none', 'sqrt' or 'balanced'."}
    )
    range_loss_weight: float = field(default=0.0, metadata={"help": "Weight of cross-entropy on the age ranges."})
    range_uniformity_weight: float = field(
        default=0.0,
        metadata={
            "help": "For faces labelled with ranges: weight of the divergence from years that are equally likely within "
            "their range. Without it a range says nothing about its years."
        },
    )
    gender_loss_weight: float = field(default=1.0, metadata={"help": "Weight of the gender loss beside the age loss."})
    gender_label_smoothing: float = field(default=0.0, metadata={"help": "Label smoothing of the gender loss."})
    head_dropout: float | None = field(
        default=None, metadata={"help": "Dropout before both heads. Default: that of finetune_from, else 0."}
    )
    flip_tta: bool | None = field(
        default=None,
        metadata={
            "help": "Horizontal-flip test-time augmentation: average the logits of each crop and its flip, for twice the "
            "computation. Default: as finetune_from does, else false."
        },
    )

    def __post_init__(self) -> None:
        """
        Raises:
            RecipeError: a value that is never valid, or values that exclude each other.
        """
        if sum(map(bool, (self.finetune_from, self.backbone, self.backbone_config))) != 1:
            raise RecipeError(
                "Set one of `finetune_from` (an age-and-gender model), `backbone` (pretrained) and `backbone_config` "
                "(from scratch)."
            )
        if any(side < 32 for side in self.train_resolutions or ()):
            raise RecipeError(f"train_resolutions must be 32 pixels or more, got {self.train_resolutions}.")
        for name, value, allowed in (
            ("age_class_weights", self.age_class_weights, CLASS_WEIGHTS),
            ("pooling", self.pooling, POOLINGS),
        ):
            if value not in allowed:
                raise RecipeError(f"{name} must be {', '.join(allowed[:-1])} or {allowed[-1]}, got {value!r}.")

    def resolved(self) -> "ModelArguments":
        """A copy with `INHERITED_ARGUMENTS` set: where they were None, to those of `finetune_from`, else to the defaults.

        Reads the configuration of `finetune_from`, from its folder or the Hub.

        Raises:
            RecipeError: there is no age-and-gender model at `finetune_from`.
        """
        unset = [name for name in INHERITED_ARGUMENTS if getattr(self, name) is None]
        if not unset:
            return self
        config = self.base_config()
        return replace(self, **{name: getattr(config, name) for name in unset})

    @property
    def decoded_sizes(self) -> tuple[int, int]:
        """Sides in pixels of the decoded faces, to measure on and to train on; of arguments that are `resolved`."""
        assert self.image_size is not None
        return self.image_size, self.train_image_size or self.image_size

    def base_config(self) -> AgeGenderConfig:
        """The configuration before the values of this recipe: that of `finetune_from`, else the defaults.

        Raises:
            RecipeError: there is no age-and-gender model at `finetune_from`.
        """
        if not self.finetune_from:
            return AgeGenderConfig()
        try:
            return AgeGenderConfig.from_pretrained(self.finetune_from, revision=self.finetune_revision or "main")
        except (OSError, ValueError) as error:
            raise RecipeError(f"finetune_from: no age-and-gender model at {self.finetune_from}: {error}") from error

    def config_values(self) -> dict[str, Any]:
        """The values of the model's configuration that the recipe gives; a fine-tuned model keeps its architecture.

        Raises:
            RecipeError: there is no age-and-gender model at `finetune_from`.
            AgeGenderError: age ranges that leave a gap.
        """
        kept = ARCHITECTURE_ARGUMENTS if self.finetune_from else ()
        values = {name: getattr(self, name) for name in CONFIG_ARGUMENTS if name not in kept}
        values = {name: value for name, value in values.items() if value is not None}
        if self.age_ranges and not self.finetune_from:
            values["age_ranges"] = parse_age_ranges(self.age_ranges, MAX_AGE)
        return values

    def config(self) -> AgeGenderConfig:
        """The configuration of the model to train, before its weights are read.

        Raises:
            RecipeError: the backbone, or the model to fine-tune, has no configuration that can be read.
            AgeGenderError: age ranges that leave a gap.
        """
        values = self.config_values()
        if self.finetune_from:
            config = self.base_config()
            for name, value in {"age_weights": None, **values}.items():
                setattr(config, name, value)
            if self.age_ranges:
                config.set_age_ranges(self.age_ranges)
            return config
        if self.backbone:
            return AgeGenderConfig(backbone_config=read_pretrained_config(self.backbone), **values)
        return AgeGenderConfig(backbone_config=read_backbone_config(self.backbone_config or ""), **values)


_PARSED = {"age_ranges", "backbone_config"}  # the configuration holds what is read from the text
# Arguments that become values of the same name of the model's configuration, where they are not None.
CONFIG_ARGUMENTS = [
    one.name for one in fields(ModelArguments) if one.name in AgeGenderConfig.__dataclass_fields__.keys() - _PARSED
]


def read_backbone_config(text: str) -> PreTrainedConfig:
    """
    Args:
        text: `model_type` and its values as JSON.

    Raises:
        RecipeError: not JSON, no such model type, or a key that this type does not know: transformers would keep it, and
            nothing would read it.
    """
    try:
        values = json.loads(text)
        config = AutoConfig.for_model(**values)
    except ImportError as error:  # timm's, where it is not installed
        raise RecipeError(f"backbone_config: {str(error).strip()}") from error
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"backbone_config: expected JSON with a model_type that transformers knows: {error}"
        ) from error
    default = type(config)()
    for key in values:
        if not hasattr(default, key) and key != "attn_implementation":
            known = {one.name for one in fields(config)} - {one.name for one in fields(PreTrainedConfig)}
            hint = did_you_mean(key, known | set(config.attribute_map), f" There are {', '.join(sorted(known))}.")
            raise RecipeError(f"backbone_config: unknown key {key!r} of a {config.model_type}.{hint}")
    return config


def read_pretrained_config(name_or_path: str) -> PreTrainedConfig:
    """
    Raises:
        RecipeError: there is no configuration of a network of transformers.
    """
    try:
        return load_backbone_config(name_or_path)
    except (ImportError, OSError, ValueError) as error:  # ImportError: timm's, where it is not installed
        raise RecipeError(f"{name_or_path} cannot be loaded: {error}") from error
