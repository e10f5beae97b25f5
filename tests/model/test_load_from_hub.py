"""What was pushed loads anywhere: in processes that have transformers and not this repository."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.hub_server import HubServer
from tests.support.tiny_model import IMAGE_SIZE, save_tiny_model


pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
REPO_ID = "user/faces"


@dataclass
class Pushed:
    hub: HubServer
    folders: list[Path]
    commits: list[str]
    expected: list[Path]


def record_answers(folder: Path, path: Path) -> None:
    """Inputs, and what the model and the pipeline of this repository's own classes say to them."""
    model, processor = AgeGenderModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    pixel_values = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = model(pixel_values)
    photo = astronaut()
    crop = photo[20:200, 130:310]
    np.savez(
        path,
        pixel_values=pixel_values,
        age_logits=output.age_logits,
        age_range_logits=output.age_range_logits,
        gender_logits=output.gender_logits,
        photo_rgb=photo,
        crop_rgb=crop,
        crop_pixel_values=processor(crop, return_tensors="pt")["pixel_values"],
        answer=json.dumps(AgeGenderPipeline(model=model, image_processor=processor)(photo)),
    )


@pytest.fixture(scope="module")
def pushed(
    tiny_runs: tuple[Path, Path], exported_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pushed]:
    """Two models, one pushed over the other: the second has ONNX files."""
    root = tmp_path_factory.mktemp("pushed")
    with HubServer(root / "hf_home") as hub:
        result = Pushed(hub, [], [], [])
        for folder in (tiny_runs[1], exported_run):
            expected = root / f"expected{len(result.folders)}.npz"
            record_answers(folder, expected)
            push(hub, folder, REPO_ID)
            result.folders.append(folder)
            result.expected.append(expected)
            result.commits.append(hub.repository(REPO_ID).branches["main"].oid)
        yield result


def push(hub: HubServer, folder: Path, repo_id: str) -> None:
    command = [sys.executable, "-m", "scripts.push_to_hub", str(folder), repo_id, "--private"]
    done = subprocess.run(command, env=hub.env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def load_elsewhere(hub: HubServer, cwd: Path, arguments: dict[str, str | None]) -> None:
    """Run `load_anywhere.py` where nothing of the repository can be imported, with every warning an error.

    But one that Python shows nobody: torch's compiler imports a module of torch's that torch calls deprecated.
    """
    shutil.copy(ROOT / "tests/support/load_anywhere.py", cwd)
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:torch.jit._script"]
    command += ["load_anywhere.py", json.dumps(arguments)]
    env = hub.env | {"TORCHINDUCTOR_CACHE_DIR": str(hub.home / "compiled")}  # of this Hub alone, as all its caches
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    assert done.stdout == ""


def test_from_the_hub(pushed: Pushed, tmp_path: Path):
    again = tmp_path / "again"
    arguments = {
        "model": REPO_ID,
        "revision": pushed.commits[1],
        "expected": str(pushed.expected[1]),
        "older_revision": pushed.commits[0],
        "older_expected": str(pushed.expected[0]),
        "save_to": str(again),
    }
    load_elsewhere(pushed.hub, tmp_path, arguments)

    # What was loaded by remote code and saved carries all its code, the pipeline's too, and none of another repository.
    for name in ("README.md", "metrics.json", "training_run.json", "handler.py", "requirements.txt"):
        shutil.copy(pushed.folders[1] / name, again)
    for name in ("figures", "onnx"):
        shutil.copytree(pushed.folders[1] / name, again / name)
    for path in pushed.folders[1].glob("*.py"):
        assert (again / path.name).read_text() == path.read_text()
    push(pushed.hub, again, "user/again")
    first, second = (set(pushed.hub.repository(name).branches["main"].files) for name in (REPO_ID, "user/again"))
    assert first == second


def test_from_the_folder(pushed: Pushed, tmp_path: Path):
    arguments = {
        "model": str(pushed.folders[1]),
        "revision": None,
        "expected": str(pushed.expected[1]),
        "older_revision": None,
        "older_expected": "",
        "save_to": str(tmp_path / "again"),
    }
    load_elsewhere(pushed.hub, tmp_path, arguments)


NETWORK_ONLY = """
import sys
from transformers import AutoModel, pipeline

AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).save_pretrained("again")
answers = [pipeline(model=name, trust_remote_code=True)("face.png") for name in (sys.argv[1], "again")]
assert answers[0] == answers[1] and answers[0], answers
"""


@pytest.mark.parametrize("on_hub", [False, True])
def test_a_network_that_was_loaded_and_saved_is_still_a_pipeline(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_hub: bool
):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    original = tmp_path / "original"
    save_tiny_model(original)
    if on_hub:
        api = HfApi(hub.url, hub.token)
        api.create_repo("user/network")
        api.upload_folder(repo_id="user/network", folder_path=original)
    Image.fromarray(astronaut()).save(tmp_path / "face.png")
    # its own cache of remote code: that of other tests may hold the pipeline's files already
    env = hub.env | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", NETWORK_ONLY, "user/network" if on_hub else str(original)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "OpenCV's cascade finds" not in done.stderr
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert config["custom_pipelines"]["age-gender-classification"]["impl"] == "pipeline_age_gender.AgeGenderPipeline"
    for path in original.glob("*.py"):
        if path.name != "handler.py":
            assert (tmp_path / "again" / path.name).read_text() == path.read_text()


PRIVATE = """
import sys
from huggingface_hub import get_token
from transformers import pipeline

print(get_token(), file=sys.stderr)
pipe = pipeline("age-gender-classification", model="user/private", token=sys.argv[1], trust_remote_code=True)
print(pipe("face.png")[0]["detection_score"] is not None)
try:
    pipeline(model="user/private", token=sys.argv[1], onnx_file="onnx/model.onnx", trust_remote_code=True)
except OSError as error:
    print(error)
"""


def test_private_with_a_token_that_only_the_call_knows(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """transformers hands it to the weights, not to the pipeline: without YuNet's file the cascade finds the faces."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    save_tiny_model(tmp_path / "tiny")
    api = HfApi(hub.url, hub.token)
    api.create_repo("user/private", private=True)
    api.upload_folder(repo_id="user/private", folder_path=tmp_path / "tiny")
    Image.fromarray(astronaut()).save(tmp_path / "face.png")

    def load(**env: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", PRIVATE, hub.token]
        done = subprocess.run(command, env=hub.env | env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done

    signed_out = load(HF_TOKEN="")
    assert signed_out.stderr.startswith("None\n")
    assert "face_detection_yunet.onnx of user/private cannot be read" in signed_out.stderr
    assert "OpenCV's cascade finds the faces" in signed_out.stderr
    by_yunet, *refusal = signed_out.stdout.splitlines()
    assert by_yunet == "False"
    assert "onnx/model.onnx of user/private cannot be read" in refusal[0]
    assert "set HF_TOKEN" in refusal[0]
    signed_in = load()
    assert "OpenCV's cascade finds" not in signed_in.stderr
    assert signed_in.stdout.startswith("True\n")


def test_pushed_code_is_what_is_needed(pushed: Pushed):
    pushed_code = {path for path in pushed.hub.repository(REPO_ID).branches["main"].files if path.endswith(".py")}
    assert pushed_code == {
        "backbones.py",
        "cascade_detection.py",
        "configuration_age_gender.py",
        "configuration_checks.py",
        "dataset_inputs.py",
        "decoding_age_gender.py",
        "decoding_limits.py",
        "errors.py",
        "face_alignment.py",
        "face_detection.py",
        "face_network.py",
        "face_orientation.py",
        "face_search.py",
        "forked_processes.py",
        "handler.py",
        "image_colours.py",
        "image_decoding.py",
        "image_formats.py",
        "image_loading.py",
        "losses_age_gender.py",
        "model_files.py",
        "prepared_faces.py",
        "modeling_age_gender.py",
        "network_limits.py",
        "exported_age_gender.py",
        "pipeline_age_gender.py",
    }
