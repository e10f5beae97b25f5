"""A small model with random weights, saved as training saves one and complete enough to be pushed."""

import hashlib
import json
from pathlib import Path

import torch
from transformers import ViTConfig

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel
from trainer.build_model import make_image_processor
from trainer.publishing import save_model_folder


IMAGE_SIZE = 32


def tiny_model(seed: int = 0, **config_values) -> AgeGenderModel:
    """Two layers of width 32 on (32, 32) crops, behind a convolutional stem as the shipped model has."""
    torch.manual_seed(seed)
    backbone = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=IMAGE_SIZE,
        patch_size=8,
    )
    values = {"backbone_config": backbone, "stem_channels": [4, 8, 16], "image_size": IMAGE_SIZE} | config_values
    return AgeGenderModel(AgeGenderConfig(**values)).eval()


def save_tiny_model(folder: Path, seed: int = 0, **config_values) -> AgeGenderModel:
    """Fill `folder` with a tiny model's code, weights, card, record and metrics that name its weights."""
    model = tiny_model(seed, **config_values)
    save_model_folder(model, make_image_processor(IMAGE_SIZE), folder)
    (folder / "README.md").write_text("---\nlicense: other\ntags: [age, gender]\n---\n# Random weights\n")
    (folder / "training_run.json").write_text("{}\n")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "metrics.json").write_text(json.dumps({"weights_sha256": digest}))
    return model
