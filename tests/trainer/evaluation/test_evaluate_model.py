"""`python -m scripts.evaluate_model`: what it writes, and what it refuses."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.requirements import sha256
from tests.support.warm_python import warm_python
from trainer.data.loading import load_faces
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.evaluation.held_out import EvaluationError
from trainer.evaluation.inference import Framing, predict


def test_figures_are_those_of_the_pipeline(run, metrics, data_args):
    faces = load_faces(data_args, seed=3)["test"]
    pipe = AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(run), image_processor=AutoImageProcessor.from_pretrained(run)
    )
    folder = data_args.dataset
    answers = [answer for (answer,) in pipe(list(faces["image"]), detect=False, dataset_folder=folder)]
    errors = [abs(answer["age"] - age) for answer, age in zip(answers, faces["age"], strict=True)]
    names = pipe.model.config.gender_names
    right = [answer["gender"] == names[gender] for answer, gender in zip(answers, faces["gender"], strict=True)]
    ranges = metrics["age_ranges"]["FairFace-9"]
    labels = np.searchsorted([low for low, _ in pipe.model.config.age_ranges], faces["age"], side="right") - 1
    hits = [answer["age_range"] == ranges["ranges"][label] for answer, label in zip(answers, labels, strict=True)]
    assert metrics["pictures"] == len(faces) == metrics["age"]["mae"]["n"]
    assert metrics["age"]["mae"]["value"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert metrics["gender"]["accuracy"]["value"] == pytest.approx(np.mean(right), abs=1e-5)
    assert ranges["accuracy"]["value"] == pytest.approx(np.mean(hits), abs=1e-5)


def test_metrics_name_weights_split_and_baseline(run, metrics, data_args):
    assert metrics["weights_sha256"] == sha256(run / "model.safetensors")
    assert (metrics["split"], metrics["split_seed"]) == ("test", 3)
    train = load_faces(data_args, seed=3)["train"]
    assert metrics["age"]["baseline"]["answer"] == np.median(train["age"])
    assert metrics["age"]["baseline"]["source"] == "median age of the training split"
    assert set(metrics["age_ranges"]) == {"FairFace-9", "DIT825-5", "14 ranges", "4 bins"}
    assert metrics["age_ranges"]["4 bins"]["macro_f1"].keys() == {"value", "low", "high", "n"}
    assert len(metrics["crop_sweep"]) == 22
    assert all(row["age_interval"].keys() == {"coverage", "width_years"} for row in metrics["crop_sweep"])
    assert str(run) not in (run / "metrics.json").read_text()


def test_measuring_again_keeps_the_sweep_of_the_same_weights(run, metrics, data_args, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    evaluate_model(EvaluationArguments(model=str(folder), draws=50), data_args)
    again = json.loads((folder / "metrics.json").read_text())
    assert again["crop_sweep"] == metrics["crop_sweep"]
    assert "Framing of the crop" in capsys.readouterr().out


def test_the_time_of_a_face_is_measured(run, metrics):
    assert 0 < metrics["network"]["milliseconds_on_one_core"] < 1000
    assert metrics["network"]["megabytes"] == pytest.approx((run / "model.safetensors").stat().st_size / 1e6, abs=0.06)


def test_figures_are_small_pictures(run):
    names = {path.stem for path in (run / "figures").iterdir()}
    assert names == {
        "confusion", "roc", "reliability", "predicted_age", "age_error", "risk_coverage", "groups", "learning_curves"
    }  # fmt: skip
    for path in (run / "figures").iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert path.stat().st_size < 120_000


def test_the_table_shows_the_same_scores(run, metrics, data_args, tmp_path, capsys):
    evaluate_model(EvaluationArguments(model=str(run), draws=50, output_dir=str(tmp_path)), data_args)
    table = capsys.readouterr().out
    score = metrics["age"]["mae"]
    assert f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]" in table
    baseline = f"median baseline: {metrics['age']['baseline']['answer']:g}, median age of the training split"
    for words in ("Age ranges: 14 ranges", baseline, "expected calibration error", "White, female"):
        assert words in table


def numbers_outside_scores(content, path: str = ""):
    """Paths of the fractions that stand in no {value, low, high, n}."""
    if isinstance(content, dict):
        if {"value", "low", "high", "n"} <= content.keys():
            return []
        return [found for name, part in content.items() for found in numbers_outside_scores(part, f"{path}.{name}")]
    if isinstance(content, list):
        return [found for part in content for found in numbers_outside_scores(part, path)]
    return [path] if isinstance(content, float) else []


def test_every_score_has_an_interval_and_a_count(metrics):
    stated = {
        ".bootstrap.level", ".age.baseline.answer", ".calibration.age_interval.target", ".gender.abstention.threshold",
        ".gender.abstention.curve.answered", ".gender.abstention.curve.threshold", ".crop_sweep.margin",
        ".crop_sweep.rotation_degrees", ".crop_sweep.blur", ".network.megabytes", ".network.milliseconds_on_one_core",
    }  # fmt: skip
    assert set(numbers_outside_scores(metrics)) <= stated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "validate"}, "choose one of train, validation, test"),
        ({"split_seed": 4}, "trained on other splits"),
        ({"model": "user/repo", "output_dir": None}, "add --output_dir"),
        ({"detect": True}, "No face was found in 20 pictures"),
    ],
)
def test_refusals(run, data_args, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    values = {"model": str(run), "output_dir": "out"} | arguments
    with pytest.raises(EvaluationError, match=message):
        evaluate_model(EvaluationArguments(**values), data_args)
    assert not Path("out").exists()


def test_detection_counts_pictures_without_a_face(run):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    pictures = [Image.fromarray(astronaut), Image.new("RGB", (200, 200), "grey")]
    faces = Dataset.from_dict(
        {"age": [35, 40], "gender": [1, 0], "race": ["White", "unknown"], "group": ["a", "b"], "image": pictures}
    )
    pipe = AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(run), image_processor=AutoImageProcessor.from_pretrained(run)
    )
    predictions, without_face = predict(pipe, faces, Accelerator(cpu=True), detect=True)
    assert without_face == 1
    assert predictions.age_labels.tolist() == [[35, 35]]
    (answer,) = pipe(pictures[0], return_years=True)
    assert predictions.age_probs[0] == pytest.approx(answer["year_probabilities"], abs=1e-6)


def test_framing_moves_what_is_seen():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[40:60, 40:60] = 255
    bright = {margin: (Framing(margin=margin).apply(picture) > 127).mean() for margin in (-0.2, 0.0, 0.4)}
    assert bright[-0.2] > bright[0.0] == 0.04 > bright[0.4]
    picture[:50] = 255
    upside_down = Framing(rotation_degrees=180).apply(picture)
    assert upside_down[70, 10, 0] == 255
    assert upside_down[20, 10, 0] == 0


def test_framing_takes_detail_away():
    checks = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((8, 8)))[..., None].repeat(3, axis=2)
    picture = (255 * checks).astype(np.uint8)
    assert np.array_equal(Framing().apply(picture), picture)
    for framing in (Framing(pixels=8), Framing(blur=0.02)):
        assert framing.apply(picture).shape == picture.shape
    assert (
        np.ptp(Framing(pixels=4).apply(picture).astype(int)) < 5
    )  # each pixel averages two black and two white squares
    contrast = [Framing(blur=blur).apply(picture).std() for blur in (0.0, 0.02, 0.1)]
    assert contrast[0] > contrast[1] > 10 * contrast[2]


@pytest.mark.slow
def test_two_processes_measure_the_same(run, data_args, tmp_path):
    # One face at a time: in other batches some processors round the logits otherwise.
    alone, both = tmp_path / "alone", tmp_path / "both"
    evaluate_model(EvaluationArguments(model=str(run), draws=50, batch_size=1, output_dir=str(alone)), data_args)
    command = [
        *(warm_python(), "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("-m", "scripts.evaluate_model", "--model", str(run), "--dataset", data_args.dataset),
        *("--cache_dir", data_args.cache_dir, "--draws", "50", "--batch_size", "1", "--output_dir", str(both)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("Age ranges: FairFace-9") == 1
    measured, shared = (json.loads((folder / "metrics.json").read_text()) for folder in (alone, both))
    for part in ("age", "age_ranges", "gender", "calibration", "groups", "worst_group", "pictures"):
        assert shared[part] == measured[part]
