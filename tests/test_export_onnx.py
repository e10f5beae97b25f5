"""`scripts.export_onnx`: the files hold the same network, and onnxruntime alone is enough to run them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from jinja2 import Template
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor, ResNetConfig

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from scripts import export_onnx as script
from scripts.export_onnx import OUTPUTS, ExportArguments, ExportError, FaceArguments, export_onnx
from tests.made_up_faces import write_utkface_folder
from tests.tiny_model import IMAGE_SIZE, save_tiny_model
from trainer.onnx_model import AgeGenderOnnxModel


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """A tiny model's folder after the command, and what the command said."""
    folder = tmp_path_factory.mktemp("exported")
    save_tiny_model(folder / "tiny")
    write_utkface_folder(folder / "faces", 30)
    command = [sys.executable, "-m", "scripts.export_onnx", "--model", str(folder / "tiny"), "--int8"]
    command += ["--dataset", str(folder / "faces"), "--split", "all", "--cache_dir", str(folder / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return folder / "tiny", done


@pytest.mark.slow
def test_what_the_command_says(exported):
    folder, done = exported
    said = done.stdout.splitlines()
    assert re.fullmatch(r"model\.onnx: 0\.\d MB, logits within \d\.\de-0[5-9] of torch's on 30 faces", said[0])
    assert re.fullmatch(r"    age_mae: [\d.]+ -> [\d.]+ years \([+-]0\.000\)", said[1])
    assert re.fullmatch(r"    gender_accuracy: [\d.]+ -> [\d.]+ % \(\+0\.000\)", said[2])
    assert said[3].startswith("model_int8.onnx: ")
    assert said[6] == f"Written: {folder}/onnx/model.onnx {folder}/onnx/model_int8.onnx"
    assert "warn" not in done.stderr.lower()
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == ["model.onnx", "model_int8.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "tolerance"), [("model.onnx", 1e-4), ("model_int8.onnx", 0.1)])
@pytest.mark.parametrize("faces", [1, 3, 70])
def test_outputs_are_named_and_those_of_torch(exported, file: str, tolerance: float, faces: int):
    folder, _ = exported
    session = onnxruntime.InferenceSession(folder / "onnx" / file)
    assert tuple(output.name for output in session.get_outputs()) == OUTPUTS
    pixel_values = torch.randn(faces, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = AgeGenderModel.from_pretrained(folder)(pixel_values)
    for name, array in zip(OUTPUTS, session.run(None, {"pixel_values": pixel_values.numpy()}), strict=True):
        assert np.abs(array - expected[name].numpy()).max() < tolerance, name


@pytest.mark.slow
def test_the_cards_snippet_runs_on_onnxruntime_alone(exported, tmp_path: Path):
    folder, _ = exported
    template = (ROOT / "model_card" / "template.md").read_text(encoding="utf-8")
    snippet = next(code for code in re.findall(r"```python\n(.*?)```", template, re.DOTALL) if "onnxruntime" in code)
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    config, onnx_file = AgeGenderConfig.from_pretrained(folder), folder / "onnx" / "model.onnx"
    code = Template(snippet).render(config=config, processor=processor, onnx_file=onnx_file)
    code += "\nimport sys\nassert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    face = Image.fromarray(astronaut()[20:200, 130:310]).resize((IMAGE_SIZE, IMAGE_SIZE))
    face.save(tmp_path / "face.jpg")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels = AutoImageProcessor.from_pretrained(folder)(Image.open(tmp_path / "face.jpg"), return_tensors="pt")
    with torch.inference_mode():
        output = AgeGenderModel.from_pretrained(folder)(**pixels)
    expected = f"{output.age_range_logits.argmax(1).numpy()} {output.gender_logits.argmax(1).numpy()}"
    assert done.stdout.strip() == expected


@pytest.mark.slow
@pytest.mark.parametrize(("file", "years"), [("onnx/model.onnx", 0.01), ("onnx/model_int8.onnx", 2)])
def test_the_pipeline_runs_on_it(exported, file: str, years: float):
    folder, _ = exported
    processor = AutoImageProcessor.from_pretrained(folder)
    pipe = AgeGenderPipeline(model=AgeGenderOnnxModel.from_pretrained(folder, file), image_processor=processor)
    (answer,) = pipe(astronaut(), age_ranges="0-17, 18+")
    (expected,) = AgeGenderPipeline(model=AgeGenderModel.from_pretrained(folder), image_processor=processor)(
        astronaut(), age_ranges="0-17, 18+"
    )
    assert answer["box"] == expected["box"]
    assert answer["age"] == pytest.approx(expected["age"], abs=years)
    assert answer["genders"] == pytest.approx(expected["genders"], abs=years / 20)
    assert pipe([astronaut(), astronaut()], detect=False, batch_size=2)[1][0]["age"] is not None


@pytest.mark.slow
def test_a_convolutional_backbone_exports_and_a_bad_export_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    save_tiny_model(tmp_path, backbone_config=backbone, stem_channels=None)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model_int8.onnx").write_bytes(b"of earlier weights")
    args = ExportArguments(model=str(tmp_path))
    (path,) = export_onnx(args, FaceArguments())
    said = capsys.readouterr().out
    assert "on 10 random inputs" in said
    assert "Removed model_int8.onnx of an earlier export" in said
    kept = path.read_bytes()
    monkeypatch.setattr(script, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(ExportError, match=r"differ from torch's by .* Nothing was written"):
        export_onnx(args, FaceArguments())
    assert path.read_bytes() == kept
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


def test_without_a_model(tmp_path: Path):
    with pytest.raises(ExportError, match=r"holds no model\.safetensors: give the folder of a trained model"):
        export_onnx(ExportArguments(model=str(tmp_path)), FaceArguments())


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install 'onnxruntime"):
        AgeGenderOnnxModel(AgeGenderConfig(), "model.onnx")
