"""The experiment that measures what copies of test pictures in training are worth."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.benchmarks.compare_splits import compare, main
from tests.support.made_up_faces import write_utkface_folder
from trainer.evaluation.predictions import Predictions


def make_predictions(ages: np.ndarray, labels: np.ndarray, genders: np.ndarray) -> Predictions:
    count = len(ages)
    unlabelled = {"races": np.full(count, "unknown"), "groups": np.arange(count)}
    return Predictions(
        np.eye(117)[ages], np.eye(2)[genders], np.stack([labels] * 2, axis=1), np.zeros(count), **unlabelled
    )


def test_difference_is_that_of_the_same_pictures():
    labels = np.full(200, 40)
    leaks = np.arange(200) < 50
    right = np.zeros(200, int)
    random = make_predictions(np.where(leaks, 40, 45), labels, right)  # the leaked pictures were learned by heart
    purged = make_predictions(np.where(leaks, 44, 45), labels, np.where(leaks, 1, 0))
    result = compare(random, purged, leaks, "median")
    assert result["leaked"]["pictures"] == 50
    assert result["leaked"]["age_mae_years"]["difference"] == pytest.approx({"value": 4, "low": 4, "high": 4})
    assert result["others"]["age_mae_years"]["difference"] == pytest.approx({"value": 0, "low": 0, "high": 0})
    overall = result["all"]["age_mae_years"]["difference"]
    assert overall["value"] == pytest.approx(1)
    assert overall["low"] < 1 < overall["high"]
    assert result["all"]["gender_accuracy"]["difference"]["value"] == pytest.approx(-0.25)


def test_only_exact_labels_count():
    known = np.arange(150) < 50
    arm = make_predictions(np.full(150, 35), np.full(150, 35), np.zeros(150, int))
    arm.age_labels[50:100] = [30, 39]
    arm.age_labels[100:] = -100
    arm.gender_labels[~known] = -100
    result = compare(arm, arm, ~known, "median")
    assert result["all"]["pictures"] == 150
    assert result["all"]["age_mae_years"]["random"] == 0
    assert result["all"]["gender_accuracy"]["random"] == 1
    assert result["leaked"] == {"pictures": 100}


@pytest.mark.slow
def test_both_arms_train_and_are_tested_on_the_same_pictures(tmp_path, capsys):
    faces = write_utkface_folder(tmp_path / "faces", count=150, size=48)
    for path in sorted(faces.iterdir())[:60]:  # copies under other names, re-encoded
        Image.open(path).save(path.with_name(path.name.replace(".jpg.chip", "1.jpg.chip")), quality=80)
    recipe = str(Path(__file__).parents[2] / "trainer/recipes/smoke.yaml")
    main([recipe, "--dataset", str(faces), "--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true"])
    result = json.loads((tmp_path / "run/comparison.json").read_text())
    assert result["pictures"]["purged"]["test"] == result["pictures"]["random"]["test"]
    assert result["pictures"]["purged"]["train"] < result["pictures"]["random"]["train"]
    assert 0 < result["comparison"]["leaked"]["pictures"] < result["comparison"]["all"]["pictures"]
    assert "difference [95 % interval]" in capsys.readouterr().out
