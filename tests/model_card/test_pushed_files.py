"""Which files of a model folder go to the Hub, and what keeps a folder from going there."""

import ast
import json
import re
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from safetensors.numpy import save_file

from model.face_detection import YUNET_FILE
from model_card.push import ModelFolderError, belongs_to_model, files_to_push
from tests.support.clean_environment import required_distributions
from tests.support.hub_server import HubServer


ROOT = Path(__file__).resolve().parents[2]


def test_what_others_put_into_the_repository_is_not_the_models():
    assert all(map(belongs_to_model, ["handler.py", "figures/a.png", "onnx/model.onnx", "config.json"]))
    assert not any(map(belongs_to_model, ["old/handler.py", "docs/figures/a.png", "a/onnx/model.onnx", "notes.txt"]))


def test_a_folder_without_code_shares_that_of_the_shipped_model(model_folder):
    whole = files_to_push(model_folder)
    for path in [*model_folder.glob("*.py"), model_folder / "requirements.txt", model_folder / YUNET_FILE]:
        path.unlink()
    shared = files_to_push(model_folder)
    assert set(shared) == set(whole)
    assert shared["config.json"] == model_folder / "config.json"
    assert {file.parent for name, file in shared.items() if name.endswith(".py")} == {ROOT / "model"}
    assert all(
        file.read_bytes() == (ROOT / "model" / name).read_bytes() for name, file in shared.items() if ".py" in name
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change(path: Path, **values) -> None:
    """Other values in a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: truncate(f / "model.safetensors"), "model.safetensors is not a whole safetensors file"),
        (lambda f: save_file({"head": np.zeros(3)}, f / "model.safetensors"), "metrics.json holds figures of other"),
        (lambda f: change(f / "metrics.json", weights_sha256=None), "metrics.json holds figures of unnamed weights"),
        (lambda f: change(f / "metrics.json", groups=None), "metrics.json does not say 'groups'"),
        (lambda f: change(f / "metrics.json", worst_group=None), "metrics.json does not say 'worst_group'"),
        (
            lambda f: change(f / "metrics.json", age=None, age_ranges=None, gender=None),
            "metrics.json holds no score of either head",
        ),
        (lambda f: change(f / "metrics.json", split="validation"), "metrics.json is of the validation split"),
        (lambda f: change(f / "training_run.json", hardware=None), "training_run.json does not say 'hardware'"),
        (lambda f: (f / "metrics.json").write_text("{"), "metrics.json is not JSON"),
        (lambda f: (f / "metrics.json").unlink(), "metrics.json is missing"),
        (lambda f: (f / "config.json").write_text("{}"), "config.json names no class for age-gender-classification"),
        (
            lambda f: (f / "config.json").write_text(
                (f / "config.json").read_text().replace("modeling_", "u/r--modeling_")
            ),
            "config.json takes AutoModel from another repository, u/r--modeling_age_gender.AgeGenderModel",
        ),
        (lambda f: (f / "face_detection.py").unlink(), "face_detection.py is missing"),  # imported by the pipeline
        (lambda f: (f / "pipeline_age_gender.py").unlink(), "pipeline_age_gender.py is missing"),
        (lambda f: (f / "face_detection_yunet.onnx").unlink(), "face_detection_yunet.onnx is missing"),
        (lambda f: (f / "requirements.txt").unlink(), "requirements.txt is missing, without which handler.py cannot"),
        (lambda f: (f / "figures/learning_curves.png").unlink(), "figures/learning_curves.png is missing"),
        (
            lambda f: (f / "training_run.json").write_text(f'{{"token": "{HubServer.token}"}}'),
            "training_run.json holds an access token",
        ),
        (lambda f: shutil.rmtree(f), "is not a folder"),
    ],
)
def test_an_incomplete_folder_is_refused(model_folder: Path, spoil, message: str):
    spoil(model_folder)
    with pytest.raises(ModelFolderError, match=re.escape(message)):
        files_to_push(model_folder)


def test_the_refusal_names_everything_that_is_missing(tmp_path: Path):
    with pytest.raises(ModelFolderError) as refusal:
        files_to_push(tmp_path)
    missing = [line.removeprefix("  - ") for line in str(refusal.value).splitlines()[1:]]
    assert missing == [
        f"{name} is missing"
        for name in (
            "config.json",
            "preprocessor_config.json",
            "model.safetensors",
            "metrics.json",
            "training_run.json",
            "face_detection_yunet.onnx",
        )
    ]


def test_what_the_code_needs_is_stated_as_in_the_whole_repository():
    """Beside torch, of which endpoints bring the build for their hardware."""
    lines, all_lines = ((folder / "requirements.txt").read_text().splitlines() for folder in (ROOT / "model", ROOT))
    assert set(lines) < set(all_lines)
    installed = {package.name.lower() for package in required_distributions([*map(Requirement, lines)])}
    modules = packages_distributions()
    for path in (ROOT / "model").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            needed = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"torch"}
            for module in needed:
                assert installed & {name.lower() for name in modules[module]}, f"{path.name} imports {module}"
