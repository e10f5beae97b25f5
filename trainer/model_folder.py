"""Write a model folder: weights, configuration, preprocessing, the code and the face detector, as the Hub expects them."""

import shutil
from pathlib import Path

from transformers import BaseImageProcessor, ViTImageProcessorPil

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


def make_image_processor(image_size: int, **normalization) -> ViTImageProcessorPil:
    """Preprocessing of (image_size, image_size) crops: scaled to 0..1, then normalised, by 0.5 and 0.5 unless given.

    Args:
        normalization: `image_mean` and `image_std`, three numbers each, where a pretrained backbone has its own.
    """
    return ViTImageProcessorPil(size={"height": image_size, "width": image_size}, **normalization)


def save_model_folder(model: AgeGenderModel, image_processor: BaseImageProcessor, folder: str | Path) -> None:
    """Fill `folder` so that it loads by `pipeline("age-gender-classification", model=folder, trust_remote_code=True)`.

    Writes model.safetensors, config.json (with `auto_map` and `custom_pipelines`), preprocessor_config.json, the code the
    pipeline needs, YuNet's weights and, for Inference Endpoints, the handler and requirements.txt. Other files in the
    folder stay as they are.
    """
    AgeGenderPipeline(model=model, image_processor=image_processor, device=model.device).save_pretrained(folder)
    for name in ("handler.py", "requirements.txt"):
        source, target = Path(__file__).parents[1] / "model" / name, Path(folder, name)
        if not (target.exists() and target.samefile(source)):
            shutil.copyfile(source, target)
