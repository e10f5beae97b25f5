"""`scripts.deploy_space` against the loopback Hub: one commit, the files the demo needs, and a demo that runs on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gradio_client import Client, handle_file
from huggingface_hub import CommitOperationAdd, HfApi, constants
from packaging.requirements import Requirement
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from scripts.deploy_space import DeployError, deploy_space
from scripts.space_files import space_files
from tests.demo_server import ROOT, DemoServer
from tests.hub_server import HubServer
from tests.tiny_model import save_tiny_model


PHOTO = ROOT / "examples" / "astronaut.jpg"
CODE = {"app.py", "demo/serving.py", "demo/__init__.py", "model/pipeline_age_gender.py", "model/face_detection.py"}


def run(hub: HubServer, module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=hub.env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_space_runs_from_its_files_alone(hub: HubServer, tmp_path: Path):
    save_tiny_model(tmp_path / "tiny")
    run(hub, "scripts.push_to_hub", str(tmp_path / "tiny"), "user/faces", "--tag", "v1")
    first = hub.repository("user/faces").branches["main"].oid
    # a later version of the model, which the Space must not pick up
    HfApi(hub.url, hub.token).create_commit(
        "user/faces", [CommitOperationAdd("README.md", b"---\ntags: [x]\n---\n")], commit_message="Later"
    )
    options = ("--model", "user/faces", "--revision", "v1", "--private", "--hardware", "cpu-upgrade")
    assert "user/space" in run(hub, "scripts.deploy_space", "user/space", *options)

    space = hub.repository("user/space", "spaces")
    commit = space.branches["main"]
    assert [entry.title for entry in commit.history()] == [f"Run user/faces at {first[:8]}", "initial commit"]
    assert space.private
    front_matter = yaml.safe_load(commit.files["README.md"].content.decode().split("---")[1])
    assert front_matter["models"] == ["user/faces"]
    assert front_matter["suggested_hardware"] == "cpu-upgrade"
    variables = {
        name: variable.value for name, variable in HfApi(hub.url, hub.token).get_space_variables("user/space").items()
    }
    assert variables == {"MODEL_ID": "user/faces", "MODEL_REVISION": first}

    code = tmp_path / "space"
    for path, file in commit.files.items():
        (code / path).parent.mkdir(parents=True, exist_ok=True)
        (code / path).write_bytes(file.content)
    with DemoServer(tmp_path, code, **hub.env, **variables) as demo:
        answer = Client(demo.url, verbose=False).predict(handle_file(PHOTO), api_name="/predict")
    model, processor = (kind.from_pretrained(tmp_path / "tiny") for kind in (AgeGenderModel, AutoImageProcessor))
    expected = AgeGenderPipeline(model=model, image_processor=processor)(str(PHOTO))
    assert answer == json.loads(json.dumps(expected))
    assert "Traceback" not in demo.log


def test_a_second_deployment_updates_the_space(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    deploy = deployer(hub, monkeypatch)
    api = add_model(hub, "user/old"), add_model(hub, "user/new")
    old, new = (info.oid for info in api)
    deploy("user/old")
    leftover = [CommitOperationAdd("demo/gone.py", b""), CommitOperationAdd("packages.txt", b"tmux\n")]
    HfApi(hub.url, hub.token).create_commit("user/space", leftover, repo_type="space", commit_message="By hand")

    deploy("user/new", hardware="cpu-upgrade")
    space, variables = hub.repository("user/space", "spaces"), hub._hub.space_variables["user/space"]
    assert variables == {"MODEL_ID": "user/new", "MODEL_REVISION": new}
    assert hub._hub.space_hardware["user/space"] == "cpu-upgrade"
    assert old != new
    files = set(space.branches["main"].files)
    assert "demo/gone.py" not in files
    assert "packages.txt" in files

    commits = len(space.all_commits)
    deploy("user/new", hardware="cpu-upgrade")
    assert len(space.all_commits) == commits
