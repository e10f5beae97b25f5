"""From a Hub id or a folder to a pipeline ready to answer, or a message that says what is missing."""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoImageProcessor

from model.face_detection import YUNET_FILE
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


# No .py: the demo runs the classes beside it, never code from elsewhere.
MODEL_FILES = ["*.json", "*.safetensors", YUNET_FILE, "README.md", "figures/*"]
REQUIRED_FILES = ["config.json", "preprocessor_config.json"]


class ModelNotServable(Exception):
    """The message says what was expected, what was found and what to do."""


@dataclass(frozen=True)
class ServedModel:
    """A pipeline, the folder its files lie in, and what to call it on the page."""

    pipeline: AgeGenderPipeline
    folder: Path
    name: str
    revision: str


def load_served_model(model_id: str, revision: str | None) -> ServedModel:
    """Raises `ModelNotServable`, whose message is meant for the operator."""
    is_folder = Path(model_id).is_dir()
    folder = Path(model_id) if is_folder else _download(model_id, revision)
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if not list(folder.glob("*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ModelNotServable(
            f"{model_id} holds no trained model: {', '.join(missing)} not found (there is: {found}).\n"
            "Train one with `python -m trainer.train trainer/recipes/vit_tiny.yaml`, or set MODEL_ID to the folder of a "
            "finished run or to a Hub id."
        )
    try:
        model = AgeGenderModel.from_pretrained(folder, dtype=torch.float32).eval()
        image_processor = AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelNotServable(f"{model_id} could not be loaded as an age-and-gender model: {error}") from error
    return ServedModel(
        pipeline=AgeGenderPipeline(model=model, image_processor=image_processor),
        folder=folder.resolve(),
        name=folder.resolve().name if is_folder else model_id,
        revision="a local folder" if is_folder else f"revision {folder.name}",  # a snapshot's folder is its commit
    )


def _download(model_id: str, revision: str | None) -> Path:
    """The commit's files in the Hub's cache; what is cached already is served without a network."""
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=MODEL_FILES))
    except HFValidationError as error:
        raise ModelNotServable(
            f"MODEL_ID is {model_id!r}: expected a folder that exists, or a Hub id such as user/repo."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotServable(
            f"{model_id} has no revision {revision!r} on the Hub. Set MODEL_REVISION to a branch, tag or commit of it."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotServable(
            f"There is no model {model_id!r} on the Hub that this machine may read, and no folder of that name. Check "
            "MODEL_ID; for a private model run `hf auth login` or set HF_TOKEN."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelNotServable(
            f"The Hub could not be reached for {model_id!r}, and it is not in this machine's cache. Check the network, "
            "or unset MODEL_ID to serve the model in the folder model/."
        ) from error
