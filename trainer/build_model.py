"""From a recipe's arguments to an untrained model, its preprocessing and its class weights."""

import copy
import difflib
import json
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, BaseImageProcessor, PreTrainedConfig, ViTImageProcessorPil

from model.configuration_age_gender import MAX_AGE, AgeGenderConfig, parse_age_ranges
from model.modeling_age_gender import AgeGenderModel
from trainer.recipe import RecipeError


@dataclass
class ModelArguments:
    """What is trained: a backbone, two heads and their losses."""

    start_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a model of this kind to train on from: the way to adapt one to other faces. Its "
            "architecture stays; image_size, age_ranges and the losses may change."
        },
    )
    start_revision: str | None = field(default=None, metadata={"help": "Revision of a Hub id in start_from."})
    backbone: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a pretrained vision backbone to start from."}
    )
    backbone_config: str | None = field(
        default=None, metadata={"help": "JSON configuration (with model_type) of a backbone trained from scratch."}
    )
    stem_channels: list[int] | None = field(
        default=None, metadata={"help": "Channels of stride-2 convolutions that replace a ViT's patch projection."}
    )
    pooling: str = field(default="mean", metadata={"help": "'mean' over the tokens, or 'cls'."})
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels of the crop the model looks at: that of start_from, or else 224, unless given."
        },
    )
    train_image_size: int | None = field(
        default=None, metadata={"help": "Side at which training pictures are kept; image_size unless told otherwise."}
    )
    train_resolutions: list[int] | None = field(
        default=None,
        metadata={
            "help": "Sides in pixels that the model is trained at, one after the other for an equal share of the steps, "
            "such as 64 96 112; image_size throughout unless given."
        },
    )
    age_ranges: list[str] | None = field(
        default=None, metadata={"help": "Such as 0-17 18-39 40+; FairFace's nine unless told otherwise."}
    )
    age_sigma_years: float = field(default=2.0, metadata={"help": "Width of the Gaussian around the labelled year."})
    age_class_weights: str = field(
        default="none", metadata={"help": "Weight of rare age ranges: 'none', 'sqrt' or 'balanced'."}
    )
    range_loss_weight: float = field(default=0.0, metadata={"help": "Weight of cross-entropy on the age ranges."})
    gender_loss_weight: float = field(default=1.0, metadata={"help": "Weight of the gender loss beside the age loss."})
    gender_label_smoothing: float = field(default=0.0, metadata={"help": "Share of the gender target spread evenly."})
    head_dropout: float | None = field(
        default=None, metadata={"help": "Dropout before both heads: that of start_from, or else 0, unless given."}
    )
    mirror_average: bool | None = field(
        default=None,
        metadata={
            "help": "Answer with the mean over a crop and its mirror image: a little better, twice the work. As "
            "start_from does, or else false, unless given."
        },
    )

    def __post_init__(self):
        if sum(map(bool, (self.start_from, self.backbone, self.backbone_config))) != 1:
            raise RecipeError(
                "Set one of `start_from` (a model of this kind), `backbone` (pretrained) and `backbone_config` (from "
                "scratch)."
            )
        unset = [name for name in ("image_size", "head_dropout", "mirror_average") if getattr(self, name) is None]
        if unset:
            start = self.start_config() if self.start_from else AgeGenderConfig()
            for name in unset:
                setattr(self, name, getattr(start, name))
        if any(side < 32 for side in self.train_resolutions or ()):
            raise RecipeError(f"train_resolutions must be 32 pixels or more, got {self.train_resolutions}.")
        if self.age_class_weights not in ("none", "sqrt", "balanced"):
            raise RecipeError(f"age_class_weights must be none, sqrt or balanced, got {self.age_class_weights!r}.")

    def start_config(self) -> AgeGenderConfig:
        try:
            return AgeGenderConfig.from_pretrained(self.start_from, revision=self.start_revision)
        except (OSError, ValueError) as error:
            raise RecipeError(f"start_from: no model of this kind at {self.start_from}: {error}") from error


def build_model(args: ModelArguments) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """The untrained model and the processor with its backbone's normalisation."""
    values = {
        name: getattr(args, name)
        for name in (
            "stem_channels",
            "pooling",
            "image_size",
            "age_sigma_years",
            "range_loss_weight",
            "gender_loss_weight",
            "gender_label_smoothing",
            "head_dropout",
            "mirror_average",
        )
    }
    if args.age_ranges:
        max_age = args.start_config().max_age if args.start_from else MAX_AGE
        values["age_ranges"] = parse_age_ranges(args.age_ranges, max_age)
    if args.start_from:
        for name in ("stem_channels", "pooling"):
            values.pop(name)
        processor = AutoImageProcessor.from_pretrained(args.start_from, revision=args.start_revision)
        return load_trained(args.start_from, args.start_revision, **values), make_image_processor(
            args.image_size, image_mean=processor.image_mean, image_std=processor.image_std
        )
    if args.backbone:
        model = AgeGenderModel.from_backbone(args.backbone, **values)
        pretrained = AutoImageProcessor.from_pretrained(args.backbone)
        if getattr(pretrained, "do_flip_channel_order", False):
            turn_to_rgb(model.backbone)
        return model, make_image_processor(args.image_size, **normalisation(pretrained))
    return AgeGenderModel(
        AgeGenderConfig(backbone_config=read_backbone_config(args.backbone_config), **values)
    ), make_image_processor(args.image_size)


def make_image_processor(image_size: int, **normalization) -> ViTImageProcessorPil:
    """Preprocessing of (image_size, image_size) crops: scaled to 0..1, then normalised, by 0.5 and 0.5 unless given.

    Args:
        normalization: `image_mean` and `image_std`, three numbers each, where a pretrained backbone has its own.
    """
    return ViTImageProcessorPil(size={"height": image_size, "width": image_size}, **normalization)


def read_backbone_config(text: str) -> PreTrainedConfig:
    """
    Args:
        text: `model_type` and its values as JSON.

    Raises:
        RecipeError: a key that this model does not know, which transformers would keep and nobody read.
    """
    values = json.loads(text)
    config = AutoConfig.for_model(**values)
    default = type(config)()
    for key in values:
        if not hasattr(default, key) and key != "attn_implementation":
            known = {one.name for one in fields(config)} - {one.name for one in fields(PreTrainedConfig)}
            near = difflib.get_close_matches(key, known | set(config.attribute_map), n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted(known))}."
            raise RecipeError(f"backbone_config: unknown key {key!r} of a {config.model_type}. {hint}")
    return config


def normalisation(processor: BaseImageProcessor) -> dict[str, list[float]]:
    """`image_mean` and `image_std` that do in one step what a pretrained backbone's processor does to RGB in 0..1."""
    if not processor.do_normalize:  # MobileViT: it keeps values that it does not use
        return {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    times = 2 if getattr(processor, "include_top", False) else 1  # EfficientNet divides twice
    return {"image_mean": list(processor.image_mean), "image_std": [std**times for std in processor.image_std]}


@torch.no_grad()
def turn_to_rgb(backbone: nn.Module) -> None:
    """Let filters that learnt from BGR see what they know in RGB pictures."""
    first = next(weights for weights in backbone.parameters() if weights.ndim == 4 and weights.shape[1] == 3)
    first.copy_(first.flip(1))


def load_trained(name_or_path: str, revision: str | None, image_size: int, **values) -> AgeGenderModel:
    """A trained model with other settings; for another `image_size` a ViT's position embeddings are interpolated."""
    trained = AgeGenderModel.from_pretrained(name_or_path, revision=revision, dtype=torch.float32)
    config = copy.deepcopy(trained.config)
    for name, value in {"image_size": image_size, "age_weights": None, **values}.items():
        config.set_age_ranges(value) if name == "age_ranges" else setattr(config, name, value)
    weights = trained.state_dict()
    positions = "backbone.embeddings.position_embeddings"
    if positions in weights and image_size != trained.config.image_size:
        config.backbone_config.image_size = image_size
        embeddings = trained.backbone.embeddings
        side = image_size // embeddings.patch_size
        tokens = torch.empty(1, side * side + 1, weights[positions].shape[-1])  # only the shape is read
        weights[positions] = embeddings.interpolate_pos_encoding(tokens, image_size, image_size).detach()
    model = AgeGenderModel(config)
    model.load_state_dict(weights)
    return model


def age_class_weights(ages: np.ndarray, config: AgeGenderConfig, kind: str) -> list[float]:
    """One weight a year, alike within a range, mean 1 over the training faces: 1/n ("balanced") or 1/sqrt(n) ("sqrt")."""
    starts = [low for low, _ in config.age_ranges]
    range_of_year = np.digitize(np.arange(config.max_age + 1), starts) - 1
    counts = np.bincount(range_of_year[ages[ages >= 0]], minlength=len(starts)).clip(min=1)
    weights = counts ** (-0.5 if kind == "sqrt" else -1.0)
    weights = weights / (weights * counts).sum() * counts.sum()
    return weights[range_of_year].tolist()
