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
from skimage.data import astronaut

from model.pipeline_age_gender import AgeGenderPipeline
from tests.hub_server import HubServer
from tests.tiny_model import IMAGE_SIZE, save_tiny_model
from trainer.model_folder import make_image_processor


pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
REPO_ID = "user/faces"


@dataclass
class Pushed:
    hub: HubServer
    folders: list[Path]
    commits: list[str]
    expected: list[Path]


def record_answers(model: torch.nn.Module, path: Path) -> None:
    """Inputs, and what the model and the pipeline in this process say to them."""
    generator = torch.Generator().manual_seed(0)
    pixel_values = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    with torch.inference_mode():
        output = model(pixel_values)
    processor = make_image_processor(IMAGE_SIZE)
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
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """Two models, one pushed over the other."""
    root = tmp_path_factory.mktemp("pushed")
    with HubServer(root / "hf_home") as hub:
        result = Pushed(hub, [], [], [])
        for seed in (0, 1):
            folder, expected = root / f"run{seed}", root / f"expected{seed}.npz"
            record_answers(save_tiny_model(folder, seed), expected)
            command = [sys.executable, "-m", "scripts.push_to_hub", str(folder), REPO_ID, "--private"]
            subprocess.run(command, env=hub.env, cwd=ROOT, check=True, capture_output=True)
            result.folders.append(folder)
            result.expected.append(expected)
            result.commits.append(hub.repository(REPO_ID).branches["main"].oid)
        yield result


def run_elsewhere(pushed: Pushed, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, env=pushed.hub.env, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    return done


@pytest.mark.parametrize("source", ["hub", "folder"])
def test_a_clean_process_gives_the_same_answers(pushed: Pushed, tmp_path: Path, source: str):
    shutil.copy(Path(__file__).with_name("load_anywhere.py"), tmp_path)
    is_hub = source == "hub"
    arguments = {
        "model": REPO_ID if is_hub else str(pushed.folders[1]),
        "revision": pushed.commits[1] if is_hub else None,
        "expected": str(pushed.expected[1]),
        "older_revision": pushed.commits[0] if is_hub else None,
        "older_expected": str(pushed.expected[0]),
    }
    run_elsewhere(pushed, tmp_path, "load_anywhere.py", json.dumps(arguments))


SAVE_AGAIN = """
import sys
from transformers import pipeline
pipe = pipeline("age-gender-classification", model="user/faces", revision=sys.argv[1], trust_remote_code=True)
pipe.save_pretrained("again")
"""


def test_what_was_loaded_by_remote_code_can_be_pushed_again(pushed: Pushed, tmp_path: Path):
    run_elsewhere(pushed, tmp_path, "-c", SAVE_AGAIN, pushed.commits[1])
    again = tmp_path / "again"
    print(sorted(p.name for p in again.iterdir()))
    first, second = (sorted(p.name for p in f.glob("*.py")) for f in (pushed.folders[1], again))
    assert first == second
    for name in second:
        assert (again / name).read_text() == (pushed.folders[1] / name).read_text()
    assert json.loads((again / "config.json").read_text()) == json.loads(
        (pushed.folders[1] / "config.json").read_text()
    )
