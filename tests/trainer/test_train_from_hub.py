"""The recipe for a GPU, through the Hub: its backbone is fetched, the finished model is pushed, mistakes are named."""

import json
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from transformers import ViTConfig, ViTModel

from tests.support.made_up_faces import write_utkface_folder
from tests.support.warm_python import warm_python
from trainer.build_model import make_image_processor


pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BACKBONE = "org/vit"


def train(environment: dict, faces: Path, output_dir: Path, *overrides: str) -> subprocess.CompletedProcess:
    """Two steps of trainer/recipes/vit_base.yaml with small pictures."""
    command = [warm_python(), "-m", "trainer.train", "trainer/recipes/vit_base.yaml", "--dataset", str(faces)]
    command += ["--output_dir", str(output_dir), "--image_size", "32", "--train_image_size", "36", "--use_cpu", "true"]
    command += ["--per_device_train_batch_size", "16", "--num_train_epochs", "1", "--dataloader_num_workers", "0"]
    return subprocess.run(
        [*command, *overrides], cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )


def test_backbone_from_the_hub_model_to_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # read from the environment at import
    backbone = tmp_path / "backbone"
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32)
    ViTModel(config).save_pretrained(backbone)
    make_image_processor(32, image_mean=[0.4, 0.5, 0.6]).save_pretrained(backbone)
    api = HfApi(hub.url, token=hub.token)
    api.create_repo(BACKBONE)
    api.upload_folder(repo_id=BACKBONE, folder_path=backbone)

    faces = write_utkface_folder(tmp_path / "faces", count=120, size=40)
    overrides = ["--backbone", BACKBONE, "--push_to_hub", "true", "--hub_model_id", "user/faces"]
    done = train(hub.env, faces, tmp_path / "run", *overrides)
    assert done.returncode == 0, done.stderr
    pushed = {file.rfilename for file in api.model_info("user/faces").siblings}
    assert {"config.json", "model.safetensors", "README.md", "metrics.json", "pipeline_age_gender.py"} <= pushed
    assert {"onnx/model.onnx", "onnx/model_int8.onnx", "onnx/comparison.json"} <= pushed
    assert json.loads((tmp_path / "run/preprocessor_config.json").read_text())["image_mean"] == [0.4, 0.5, 0.6]
    assert f"base_model: {BACKBONE}" in (tmp_path / "run/README.md").read_text()


def test_a_backbone_that_the_hub_does_not_have(hub, tmp_path):
    faces = write_utkface_folder(tmp_path / "faces", count=40, size=40)
    done = train(hub.env, faces, tmp_path / "run", "--backbone", "user/nothing")
    assert done.returncode == 1
    assert "user/nothing is not a local folder and is not a valid model identifier" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
