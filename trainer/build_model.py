"""Build the model to train: from scratch, around a pretrained backbone, or from a model to fine-tune."""

import copy
import json
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, ViTImageProcessorPil

from model.backbones import try_backbone
from model.configuration_age_gender import MAX_AGE, AgeGenderConfig, load_backbone_config, parse_age_ranges
from model.model_files import load_image_processor
from model.modeling_age_gender import AgeGenderModel
from trainer.model_arguments import ModelArguments, load_config
from trainer.recipe import RecipeError, did_you_mean


# These arguments become values of the model's configuration, where they are not None.
CONFIG_ARGUMENTS = (
    *("stem_channels", "pooling", "image_size", "age_sigma_years", "range_loss_weight", "gender_loss_weight"),
    *("gender_label_smoothing", "head_dropout", "flip_tta"),
)
ARCHITECTURE_ARGUMENTS = ("stem_channels", "pooling")  # of these a fine-tuned model keeps its own


def check_model(args: ModelArguments) -> int:
    """Whether `build_model` can build it, before the faces are prepared: from its configuration, without its weights.

    Returns:
        How many bytes its weights will take.

    Raises:
        RecipeError: as `build_model`.
        BackboneError: the backbone is refused, or takes no pictures of `image_size` or `train_resolutions` pixels.
        AgeGenderError: age ranges that leave a gap, a stem that does not fit the backbone, or pooling `cls` of one without a
            class token.
    """
    values = config_values(args)
    if args.finetune_from:
        config = load_config(args.finetune_from, args.finetune_revision)
        config.image_size = values.get("image_size", config.image_size)
    elif args.backbone:
        config = AgeGenderConfig(backbone_config=read_pretrained_config(args.backbone), **values)
    else:
        config = AgeGenderConfig(backbone_config=read_backbone_config(args.backbone_config or ""), **values)
    with torch.device("meta"):
        model = AgeGenderModel(config)
    for side in args.train_resolutions or ():
        assert isinstance(config.backbone_config, PreTrainedConfig)
        try_backbone(config.backbone_config, side)
    return sum(weights.numel() * weights.element_size() for weights in model.parameters())


def build_model(args: ModelArguments) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """The model to train, and the preprocessing that its backbone expects.

    Raises:
        RecipeError: no such model or backbone, or one that cannot be read.
        BackboneError: the backbone is refused.
        AgeGenderError: age ranges that leave a gap, or a stem that does not fit the backbone.
    """
    values = config_values(args)
    source = args.finetune_from or args.backbone
    try:
        if args.finetune_from:
            model = load_trained(args.finetune_from, args.finetune_revision, **values)
            pretrained = load_image_processor(args.finetune_from, args.finetune_revision)
            normalisation = {"image_mean": pretrained.image_mean, "image_std": pretrained.image_std}
        elif args.backbone:
            model = AgeGenderModel.from_backbone(args.backbone, **values)
            pretrained = load_image_processor(args.backbone)
            normalisation = backbone_normalisation(pretrained)
            if getattr(pretrained, "do_flip_channel_order", False):
                turn_to_rgb(model.backbone)
        else:
            config = AgeGenderConfig(backbone_config=read_backbone_config(args.backbone_config or ""), **values)
            model, normalisation = AgeGenderModel(config), {}
    except (OSError, SafetensorError) as error:
        raise RecipeError(f"{source} cannot be loaded: {error}") from error
    return model, make_image_processor(model.config.image_size, **normalisation)


def config_values(args: ModelArguments) -> dict[str, Any]:
    """The values of the model's configuration that `args` give; of a model to fine-tune the architecture is not among them.

    Raises:
        RecipeError: there is no age-and-gender model at `finetune_from`.
        AgeGenderError: age ranges that leave a gap.
    """
    values = {name: getattr(args, name) for name in CONFIG_ARGUMENTS if getattr(args, name) is not None}
    if args.age_ranges:
        max_age = load_config(args.finetune_from, args.finetune_revision).max_age if args.finetune_from else MAX_AGE
        values["age_ranges"] = parse_age_ranges(args.age_ranges, max_age)
    if args.finetune_from:
        for name in ARCHITECTURE_ARGUMENTS:
            values.pop(name, None)
    return values


def build_weighted_model(
    args: ModelArguments, train_faces: Dataset | IterableDataset
) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """`build_model`, with the years weighted by how rare they are in `train_faces`, if `age_class_weights` asks for it."""
    model, processor = build_model(args)
    if args.age_class_weights != "none":
        ages = np.array(list(train_faces.select_columns(["age"])["age"]))
        model.config.age_weights = age_class_weights(ages, model.config, args.age_class_weights)
    return model, processor


def make_image_processor(image_size: int, **normalisation: Any) -> ViTImageProcessorPil:
    """Preprocessing of (image_size, image_size) crops: scaled to 0..1, then normalised, by 0.5 and 0.5 unless given.

    Args:
        normalisation: `image_mean` and `image_std`, three numbers each, where a pretrained backbone has its own.
    """
    return ViTImageProcessorPil(size={"height": image_size, "width": image_size}, **normalisation)


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


def backbone_normalisation(processor: Any) -> dict[str, list[float]]:
    """`image_mean` and `image_std` that do in one step what a pretrained backbone's processor does to RGB in 0..1.

    Args:
        processor: any image processor of transformers; their common base class declares none of what is read here.
    """
    if not processor.do_normalize:  # MobileViT's has a mean and a standard deviation that it does not use
        return {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    times = 2 if getattr(processor, "include_top", False) else 1  # EfficientNet's divides twice
    return {"image_mean": list(processor.image_mean), "image_std": [std**times for std in processor.image_std]}


@torch.no_grad()
def turn_to_rgb(backbone: nn.Module) -> None:
    """Flip the input channels of a backbone that was trained on BGR, so that it expects RGB."""
    first = next(weights for weights in backbone.parameters() if weights.ndim == 4 and weights.shape[1] == 3)
    first.copy_(first.flip(1))


def load_trained(name_or_path: str, revision: str | None, **values: Any) -> AgeGenderModel:
    """A trained model with other `values` in its configuration.

    For another `image_size`, the position embeddings of a ViT are interpolated.
    """
    trained = AgeGenderModel.from_pretrained(name_or_path, revision=revision or "main", dtype=torch.float32)
    config = copy.deepcopy(trained.config)
    for name, value in {"age_weights": None, **values}.items():
        if name == "age_ranges":
            config.set_age_ranges(value)
        else:
            setattr(config, name, value)
    weights = trained.state_dict()
    positions, image_size = "backbone.embeddings.position_embeddings", config.image_size
    if positions in weights and image_size != trained.config.image_size:
        backbone_config: Any = config.backbone_config
        backbone_config.image_size = image_size
        embeddings: Any = trained.backbone.embeddings
        side = image_size // embeddings.patch_size
        tokens = torch.empty(1, side * side + 1, weights[positions].shape[-1])  # only the shape is read
        weights[positions] = embeddings.interpolate_pos_encoding(tokens, image_size, image_size).detach()
    model = AgeGenderModel(config)
    model.load_state_dict(weights)
    return model


def age_class_weights(ages: np.ndarray, config: AgeGenderConfig, kind: str) -> list[float]:
    """The weight of each year in the loss: alike within an age range, and 1 on average over the training faces.

    Args:
        ages: (N,) years of the training faces, -100 where unknown.
        kind: "balanced" weighs a range of n faces by 1/n, "sqrt" by 1/sqrt(n).

    Returns:
        `max_age + 1` numbers.
    """
    starts = np.array(config.age_ranges)[:, 0]
    range_of_year = np.digitize(np.arange(config.max_age + 1), starts) - 1
    counts = np.bincount(range_of_year[ages[ages >= 0]], minlength=len(starts)).clip(min=1)
    weights = counts ** (-0.5 if kind == "sqrt" else -1.0)
    weights = weights / (weights * counts).sum() * counts.sum()
    return weights[range_of_year].tolist()
