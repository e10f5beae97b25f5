"""The benchmark of fine-tuning on few faces: what it draws, measures and prints, and that it really fine-tunes."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.configuration_age_gender import AgeGenderConfig
from scripts.benchmarks.small_sets import Faces, Fitted, format_table, main, measure, resample
from tests.support.made_up_faces import write_utkface_folder
from tests.support.tiny_model import save_tiny_model


RECIPE = Path(__file__).parents[2] / "trainer/recipes/fine_tune.yaml"


def made_up_faces(count: int) -> Faces:
    """Of a calibrated model: errors of 5 years, and genders that are right as often as it says."""
    random = np.random.default_rng(0)
    ages, genders = random.integers(10, 80, count), random.integers(0, 2, count)
    age_logits = -((np.arange(117) - (ages + random.normal(0, 5, count))[:, None]) ** 2) / (2 * 5**2)
    margins = random.uniform(0, 8, count)
    is_correct = random.random(count) < 1 / (1 + np.exp(-margins))
    gender_logits = np.zeros((count, 2))
    gender_logits[np.arange(count), np.where(is_correct, genders, 1 - genders)] = margins
    return Faces(age_logits, gender_logits, ages, genders)


def test_measures_the_share_of_each_kind_of_answer():
    genders = np.array([[0, 0.1], [0, 5.0], [5.0, 0], [5.0, 0]])
    faces = Faces(
        np.log(np.eye(117)[[20, 30, 40, 40]] + 1e-9), genders, np.array([20, 30, 40, 50]), np.array([0, 1, 1, -100])
    )
    assert measure(Fitted(1, 1, 0.8, 0.9), faces) == pytest.approx([100 / 3, 50, 75])


def test_few_faces_alone_make_the_model_unsure_and_the_prior_does_not():
    config = AgeGenderConfig(gender_threshold=0.5, interval_mass=0.72)  # whole years contain more than the mass
    measured = resample(made_up_faces(600), config, [60, 500], draws=10)
    for fits in measured.values():
        assert fits["before"][:, 0].mean() > fits["after"][:, 0].mean() + 20
        assert fits["after"][:, 2].mean() == pytest.approx(80, abs=5)
    _, _, sixty, _ = format_table(measured, {60: 6, 500: 50}).split("\n")
    assert sixty.startswith("| 60 | 6 | ")
    assert len(sixty.split("|")) == 10


@pytest.mark.slow
def test_fine_tunes_on_each_size_and_records_where_the_calibration_comes_from(tmp_path, capsys):
    save_tiny_model(tmp_path / "base", gender_threshold=0.55, interval_mass=0.7)
    faces = write_utkface_folder(tmp_path / "faces", count=150, size=40)
    arguments = ["--recipe", RECIPE, "--dataset", faces, "--sizes", 60, "--output_dir", tmp_path / "small"]
    arguments += ["--finetune_from", tmp_path / "base", "--num_train_epochs", 1, "--use_cpu", "true"]
    main([*map(str, arguments), "--disable_tqdm", "true"])
    assert "| 60 | " in capsys.readouterr().out
    calibration = json.loads((tmp_path / "small/60/training_run.json").read_text())["calibration"]
    config = json.loads((tmp_path / "small/60/config.json").read_text())
    of_threshold, of_mass = (calibration["evidence"][name] for name in ("gender_threshold", "interval_mass"))
    assert calibration["prior"] == "base"
    assert (of_threshold["prior"], of_mass["prior"]) == (0.55, 0.7)
    assert of_mass["weight"] == pytest.approx(calibration["faces"] / (calibration["faces"] + 100))
    assert config["gender_threshold"] == calibration["gender_threshold"]
