"""`scripts.export_onnx`: the files hold the same network, and onnxruntime alone is enough to run them."""

import json
import pickle
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor, ResNetConfig

from model.exported_age_gender import AgeGenderOnnxModel
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.push import ModelFolderError, files_to_push
from model_card.requirements import COMPARISON
from scripts import predict
from tests.support.tiny_model import IMAGE_SIZE, save_tiny_model
from trainer.onnx import export as files
from trainer.onnx.export import OUTPUTS, ExportArguments, ExportError, FaceArguments, export_onnx


@pytest.mark.slow
def test_what_the_command_says(exported_run: Path):
    said = (exported_run / "export.log").read_text().splitlines()
    assert re.fullmatch(r"model\.onnx: 0\.\d MB, logits within \d\.\de-0[5-9] of torch's on 12 faces", said[0])
    assert re.fullmatch(r"    age_mae: [\d.]+ -> [\d.]+ years \([+-]0\.000\)", said[1])
    assert re.fullmatch(r"    gender_accuracy: [\d.]+ -> [\d.]+ % \(\+0\.000\)", said[2])
    assert said[3].startswith("model_int8.onnx: ")
    assert said[6].startswith("model_web.onnx: ")
    written = " ".join(f"{exported_run}/onnx/{name}" for name in ("model.onnx", "model_int8.onnx", "model_web.onnx"))
    assert said[9] == f"Written: {written}"
    assert said[10] == f"Show it on the card: python -m model_card.card {exported_run}"
    names = sorted(path.name for path in (exported_run / "onnx").iterdir())
    assert names == ["comparison.json", "model.onnx", "model_int8.onnx", "model_web.onnx"]


@pytest.mark.slow
def test_the_comparison_is_that_of_the_measured_model(exported_run: Path):
    comparison, metrics = (json.loads((exported_run / name).read_text()) for name in (COMPARISON, "metrics.json"))
    assert comparison["pictures"] == metrics["pictures"]
    for file in comparison["files"].values():
        assert file["age_mae"]["before"]["value"] == pytest.approx(metrics["age"]["mae"]["value"], abs=1e-4)
        assert file["gender_accuracy"]["before"]["value"] == metrics["gender"]["accuracy"]["value"]
        for scores in (file["age_mae"], file["gender_accuracy"]):
            difference = scores["after"]["value"] - scores["before"]["value"]
            assert scores["change"]["value"] == pytest.approx(difference, abs=2e-5)
            assert scores["change"]["low"] <= scores["change"]["value"] <= scores["change"]["high"]
    assert abs(comparison["files"]["model_int8.onnx"]["age_mae"]["change"]["value"]) > 1e-4


@pytest.mark.slow
def test_what_is_pushed_is_of_these_weights_and_on_the_card(exported_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(exported_run, tmp_path / "run"))
    assert {"onnx/model.onnx", "onnx/model_int8.onnx", COMPARISON} <= set(files_to_push(folder))
    card = (folder / "README.md").read_text()
    change = json.loads((folder / COMPARISON).read_text())["files"]["model_int8.onnx"]["age_mae"]["change"]
    assert f"| {change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}] |" in card

    (folder / "onnx" / "model.onnx").write_bytes((folder / "onnx" / "model_int8.onnx").read_bytes())
    with pytest.raises(ModelFolderError, match=r"onnx/model\.onnx is not the file that onnx/comparison\.json was"):
        files_to_push(folder)


@pytest.mark.slow
def test_an_export_of_earlier_weights_is_not_pushed(exported_run: Path, tiny_runs: tuple[Path, Path], tmp_path: Path):
    folder = Path(shutil.copytree(tiny_runs[1], tmp_path / "run"))
    shutil.copytree(exported_run / "onnx", folder / "onnx")
    with pytest.raises(ModelFolderError, match="onnx/ holds an export of other weights"):
        files_to_push(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "tolerance"), [("model.onnx", 1e-4), ("model_int8.onnx", 0.1), ("model_web.onnx", 0.1)]
)
@pytest.mark.parametrize("faces", [1, 3, 70])
def test_outputs_are_named_and_those_of_torch(exported_run: Path, file: str, tolerance: float, faces: int):
    session = onnxruntime.InferenceSession(exported_run / "onnx" / file)
    assert tuple(output.name for output in session.get_outputs()) == OUTPUTS
    pixel_values = torch.randn(faces, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = AgeGenderModel.from_pretrained(exported_run)(pixel_values)
    for name, array in zip(OUTPUTS, session.run(None, {"pixel_values": pixel_values.numpy()}), strict=True):
        assert np.abs(array - expected[name].numpy()).max() < tolerance, name


@pytest.mark.slow
@pytest.mark.parametrize(("file", "years"), [("onnx/model.onnx", 0.01), ("onnx/model_int8.onnx", 2)])
def test_the_pipeline_runs_on_it(exported_run: Path, file: str, years: float):
    processor, model = AutoImageProcessor.from_pretrained(exported_run), AgeGenderModel.from_pretrained(exported_run)
    pipe = AgeGenderPipeline(model=model, image_processor=processor, onnx_file=file)
    (answer,) = pipe(astronaut(), age_ranges="0-17, 18+")
    (expected,) = AgeGenderPipeline(model=model, image_processor=processor)(astronaut(), age_ranges="0-17, 18+")
    assert answer["box"] == expected["box"]
    assert answer["age"] == pytest.approx(expected["age"], abs=years)
    assert answer["age"] != expected["age"]
    assert answer["genders"] == pytest.approx(expected["genders"], abs=years / 20)
    assert pipe([astronaut(), astronaut()], detect=False, batch_size=2)[1][0]["age"] is not None
    assert pickle.loads(pickle.dumps(pipe))(astronaut(), age_ranges="0-17, 18+") == [answer]


@pytest.mark.slow
def test_pictures_are_scored_on_it(exported_run: Path, tmp_path: Path):
    Image.fromarray(astronaut()).save(tmp_path / "astronaut.png")
    ages = []
    for options in ([], ["--onnx-file", "onnx/model.onnx"]):
        output = tmp_path / f"{len(options)}.jsonl"
        given = [str(tmp_path / "astronaut.png"), "--model", str(exported_run), "--output", str(output), *options]
        predict.main(predict.read_arguments(given))
        ages.append(json.loads(output.read_text())["age"])
    assert ages[1] == pytest.approx(ages[0], abs=0.01)
    assert ages[1] != ages[0], "torch answered both times"


@pytest.mark.slow
def test_a_convolutional_backbone_exports_and_a_bad_export_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    save_tiny_model(tmp_path, backbone_config=backbone, stem_channels=None, flip_tta=True)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model_int8.onnx").write_bytes(b"of earlier weights")
    (tmp_path / "onnx" / ".export-killed").mkdir()
    args = ExportArguments(model=str(tmp_path), web=True)
    path, web = export_onnx(args, FaceArguments())
    assert web.stat().st_size < path.stat().st_size
    said = capsys.readouterr().out
    assert "on 10 random inputs" in said
    assert "Removed model_int8.onnx of an earlier export" in said
    kept = path.read_bytes()
    monkeypatch.setattr(files, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(ExportError, match=r"differ from torch's by .* Nothing was written"):
        export_onnx(args, FaceArguments())
    assert path.read_bytes() == kept
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "comparison.json",
        "model.onnx",
        "model_web.onnx",
    ]


def test_what_a_browser_loads_is_as_precise_as_its_size_allows(tmp_path: Path):
    """Small arrays of weights stay in 32 bits, larger ones in 16, the largest in 8."""
    random, widths = np.random.default_rng(0), [3, 32, 64, 256, 256]
    weights = [
        random.normal(0, (9 * before) ** -0.5, (after, before, 3, 3)).astype(np.float32)
        for before, after in pairwise(widths)
    ]
    nodes = [
        onnx.helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"x{index + 1}"], pads=[1] * 4) for index in range(4)
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, width, 16, 16])
        for name, width in (("x0", 3), ("x4", 256))
    ]
    arrays = [numpy_helper.from_array(values, f"w{index}") for index, values in enumerate(weights)]
    graph = onnx.helper.make_graph(nodes, "layers", ends[:1], ends[1:], arrays)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "fp32.onnx")
    files.write_web(tmp_path / "fp32.onnx", tmp_path / "web.onnx")
    stored = [numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "web.onnx").graph.initializer]
    of_weights = {values.size: values.dtype for values in stored if values.ndim == 4}
    assert [values.size for values in weights] == [864, 18_432, 147_456, 589_824]
    assert [of_weights[values.size] for values in weights] == [np.float32, np.float16, np.int8, np.int8]
    picture = {"x0": random.normal(size=(1, 3, 16, 16)).astype(np.float32)}
    found, expected = (
        onnxruntime.InferenceSession(tmp_path / name).run(None, picture)[0] for name in ("web.onnx", "fp32.onnx")
    )
    assert np.abs(found - expected).mean() < 0.01 * expected.std()


def test_without_a_model(tmp_path: Path):
    with pytest.raises(ExportError, match=r"holds no model\.safetensors: give the folder of a trained model"):
        export_onnx(ExportArguments(model=str(tmp_path)), FaceArguments())


@pytest.mark.slow
def test_no_file_asked_for(exported_run: Path):
    with pytest.raises(ExportError, match="Expected at least one of --fp32, --int8 and --web to be true"):
        export_onnx(ExportArguments(model=str(exported_run), fp32=False), FaceArguments())


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install 'onnxruntime"):
        AgeGenderOnnxModel("model.onnx")


def test_a_file_that_is_not_there(tmp_path: Path):
    save_tiny_model(tmp_path)
    model, processor = (kind.from_pretrained(tmp_path) for kind in (AgeGenderModel, AutoImageProcessor))
    with pytest.raises(OSError, match=r"does not appear to have a file named onnx/model\.onnx"):
        AgeGenderPipeline(model=model, image_processor=processor, onnx_file="onnx/model.onnx")
