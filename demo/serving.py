"""The models that are served: their files are fetched and checked at the start."""

import hashlib
import json
import threading
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from demo.settings import ModelChoice
from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model.face_detection import YUNET_FILE
from model.model_files import (
    PARSED_FILES,
    PREPROCESSING_FILE,
    ModelFileError,
    check_sizes,
    load_image_processor,
    one_line,
)
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


NETWORK_FILE = "onnx/model_web.onnx"  # for browsers; scripts.export_onnx --web writes it
# Not *.py: the demo runs the classes in model/ beside it, never code from elsewhere.
MODEL_FILES = ["*.json", "*.safetensors", YUNET_FILE, "README.md", "figures/*", NETWORK_FILE]
SMALL_FILES = [*PARSED_FILES, "metrics.json", "training_run.json", "README.md", "figures/*"]
REQUIRED_FILES = ["config.json", PREPROCESSING_FILE]


class ModelNotServable(AgeGenderError):
    """There is no model of this kind where the operator said, or it cannot be read."""


class ServedModel:
    """A model whose files have been checked. Its weights are read at first use and kept.

    name, revision: what the page calls it; folder: where its files lie; page: its web address, if it has one; kind: see
    `ModelChoice`.
    """

    def __init__(self, name: str, revision: str, folder: Path, page: str | None = None, kind: str | None = None):
        self.name, self.revision, self.folder, self.page, self.kind = name, revision, folder, page, kind
        self._pipeline: AgeGenderPipeline | None = None
        self._lock = threading.Lock()  # other visitors wait while the first one's request reads it

    @property
    def pipeline(self) -> AgeGenderPipeline:
        """Raises `ModelNotServable`."""
        with self._lock:
            if self._pipeline is None:
                try:
                    model = AgeGenderModel.from_pretrained(self.folder, dtype=torch.float32).eval()
                    image_processor = load_image_processor(self.folder)
                    self._pipeline = AgeGenderPipeline(model=model, image_processor=image_processor)
                except AgeGenderError as error:
                    raise ModelNotServable(
                        f"{self.name} could not be loaded as an age-and-gender model: {error}"
                    ) from error
            return self._pipeline


def find_model(choice: ModelChoice) -> ServedModel:
    """Fetch and check the files of a model. Raises `ModelNotServable` with a message for the operator."""
    model_id = choice.model_id
    is_folder = Path(model_id).is_dir()
    try:
        check_sizes(model_id, SMALL_FILES, choice.revision)
    except ModelFileError as error:
        raise ModelNotServable(str(error)) from error
    folder = Path(model_id).resolve() if is_folder else _download(model_id, choice.revision)
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if not list(folder.glob("*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        found = ", ".join(sorted(path.name for path in folder.glob("*"))) or "nothing"
        raise ModelNotServable(
            f"{model_id} holds no trained model: {', '.join(missing)} not found (there is: {found}).\n"
            "Train one with `python -m trainer.train trainer/recipes/vit_tiny.yaml`, or name the folder of a finished run, "
            "or a Hub id."
        )
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = values.get("model_type") if isinstance(values, dict) else None
    except (ValueError, RecursionError) as error:
        raise ModelNotServable(f"{model_id}: its config.json is not readable ({error}).") from error
    if kind != AgeGenderConfig.model_type:  # transformers would load it all the same, with random weights in the heads
        raise ModelNotServable(
            f"{model_id} is not an age-and-gender model: its config.json names the type {kind!r}, expected "
            f"{AgeGenderConfig.model_type!r}."
        )
    # a snapshot's folder is its commit
    revision = f"a local folder, {_digest(folder)}" if is_folder else f"revision {folder.name}"
    page = None if is_folder else f"https://huggingface.co/{model_id}/tree/{folder.name}"
    return ServedModel(choice.name, revision, folder, page, choice.kind)


def _digest(folder: Path) -> str:
    """Identifies weights without a commit. For a single file it is the SHA-256 that its metrics.json names."""
    digest = hashlib.sha256()
    for weights in sorted(folder.glob("*.safetensors")):
        digest.update(weights.read_bytes())
    return f"its weights' SHA-256 begins {digest.hexdigest()[:12]}"


def _download(model_id: str, revision: str | None) -> Path:
    """The folder of the commit in the Hub's cache. Files that are there already need no network."""
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=MODEL_FILES))
    except HFValidationError as error:
        raise ModelNotServable(
            f"The model asked for is {model_id!r}: expected a folder that exists, or a Hub id such as user/repo."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotServable(
            f"{model_id} has no revision {revision!r} on the Hub. Name a branch, tag or commit of it."
        ) from error
    except GatedRepoError as error:  # a RepositoryNotFoundError
        raise ModelNotServable(
            f"{model_id!r} is a gated model: accept its terms on https://huggingface.co/{model_id}, then run `hf auth login` "
            "or set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotServable(
            f"There is no model {model_id!r} on the Hub that this machine may read, and no folder of that name. Check "
            "the name; for a private model run `hf auth login` or set HF_TOKEN."
        ) from error
    except OSError as error:  # no network, or a full disk
        raise ModelNotServable(
            f"{model_id!r} could not be fetched from the Hub, and is not in this machine's cache: {one_line(error)}"
        ) from error
