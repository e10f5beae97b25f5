"""Build the model to train: from scratch, around a pretrained backbone, or from a model to fine-tune."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from safetensors import SafetensorError
from torch import nn
from transformers import ViTImageProcessorPil

from model.backbones import try_backbone
from model.configuration_age_gender import AgeGenderConfig
from model.model_files import load_image_processor
from model.modeling_age_gender import AgeGenderModel
from trainer.data.transforms import age_bounds
from trainer.model_arguments import ModelArguments
from trainer.recipe import RecipeError


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
    config = args.config()
    with torch.device("meta"):
        model = AgeGenderModel(config)
    backbone_config: Any = config.backbone_config
    for side in args.train_resolutions or ():
        try_backbone(backbone_config, side)
    return sum(weights.numel() * weights.element_size() for weights in model.parameters())


def build_model(args: ModelArguments) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """The model to train, and the preprocessing that its backbone expects.

    Raises:
        RecipeError: no such model or backbone, or one that cannot be read.
        BackboneError: the backbone is refused.
        AgeGenderError: age ranges that leave a gap, or a stem that does not fit the backbone.
    """
    try:
        if args.finetune_from:
            model = load_trained(args.finetune_from, args.finetune_revision, args.config())
            pretrained = load_image_processor(args.finetune_from, args.finetune_revision)
        elif args.backbone:
            model = AgeGenderModel.from_backbone(args.backbone, **args.config_values())
            pretrained = load_image_processor(args.backbone)
        else:
            model = AgeGenderModel(args.config())
            return model, make_image_processor(model.config.image_size)
    except (OSError, SafetensorError) as error:
        raise RecipeError(f"{args.finetune_from or args.backbone} cannot be loaded: {error}") from error
    if getattr(pretrained, "do_flip_channel_order", False):
        turn_to_rgb(model.backbone)
    return model, make_image_processor(model.config.image_size, **normalisation_of(pretrained))


def build_model_for(
    args: ModelArguments, train_faces: Sequence[Dataset | IterableDataset]
) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """`build_model`, with the years weighted by how rare they are in all parts of `train_faces`, if `age_class_weights` asks
    for it.
    """
    model, processor = build_model(args)
    if args.age_class_weights != "none":
        ages = np.concatenate([age_bounds(part).sum(axis=1) // 2 for part in train_faces])  # as the loss weighs a range
        model.config.age_weights = age_class_weights(ages, model.config, args.age_class_weights)
    return model, processor


def make_image_processor(image_size: int, **normalisation: Any) -> ViTImageProcessorPil:
    """Preprocessing of (image_size, image_size) crops: scaled to 0..1, then normalised, by 0.5 and 0.5 unless given.

    Args:
        normalisation: `image_mean` and `image_std`, three numbers each, where a pretrained backbone has its own.
    """
    return ViTImageProcessorPil(size={"height": image_size, "width": image_size}, **normalisation)


def normalisation_of(processor: Any) -> dict[str, list[float]]:
    """`image_mean` and `image_std` that do in one step what a pretrained model's processor does to RGB in 0..1.

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


def load_trained(name_or_path: str, revision: str | None, config: AgeGenderConfig) -> AgeGenderModel:
    """A trained model with another configuration of the same architecture.

    For another `image_size`, the position embeddings of a ViT are interpolated.
    """
    trained = AgeGenderModel.from_pretrained(name_or_path, revision=revision or "main", dtype=torch.float32)
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
        ages: (N,) years of the training faces, of a range the middle one, -100 where unknown.
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
