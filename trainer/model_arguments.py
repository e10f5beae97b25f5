"""The arguments that say which model is trained: a backbone or a model to fine-tune, two heads and their losses."""

from dataclasses import dataclass, field, replace

from model.configuration_age_gender import AgeGenderConfig
from trainer.recipe import RecipeError


# Of these a fine-tuned model keeps its own, unless they are given.
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
        return load_config(self.finetune_from, self.finetune_revision) if self.finetune_from else AgeGenderConfig()


def load_config(name_or_path: str, revision: str | None) -> AgeGenderConfig:
    """The configuration of a model to fine-tune.

    Raises:
        RecipeError: there is no age-and-gender model.
    """
    try:
        return AgeGenderConfig.from_pretrained(name_or_path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise RecipeError(f"finetune_from: no age-and-gender model at {name_or_path}: {error}") from error
