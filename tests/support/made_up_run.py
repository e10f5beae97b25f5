"""A finished run without a training: a tiny random model with a record, figures and an ONNX file that were made up."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from model.configuration_age_gender import AgeGenderConfig
from model.losses_age_gender import IGNORE_INDEX
from model_card.card import FIGURES
from model_card.requirements import sha256
from tests.support.tiny_model import save_tiny_model
from trainer.evaluation.predictions import Evaluation, Predictions
from trainer.evaluation.scores import report_scores


def evidence(prior: float | str, alone: float | str | None, *, weight: float, **counts: int) -> dict:
    return {"prior": prior, "alone": alone, "weight": weight, "faces": 2000, "faces_needed": 100} | counts


RUN = {
    "command": "python -m trainer.train trainer/recipes/vit_tiny.yaml",
    "recipe_text": "dataset: UTKFace.tar.gz\nnum_train_epochs: 30\n",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "hardware": {"device": "cpu", "gpu": None, "cpu": "AMD EPYC", "cores": 2, "threads": 2},
    "arguments": {"dataset": "UTKFace.tar.gz", "backbone": None, "split_by": "group", "load_best_model_at_end": True},
    "data": {"splits": {"train": 16000, "validation": 2000, "test": 600}, "seed": 0, "splits_sha256": "0"},
    "seconds": 5580,
    "best_step": 3750,
    "best_metric": {"eval_age_mae": 5.4321},
    "calibration": {
        "faces": 2000,
        "age_temperature": 1.234,
        "gender_temperature": 0.987,
        "age_estimate": "median",
        "interval_mass": 0.8,
        "gender_target_accuracy": 0.96,
        "gender_target_reached": True,
        "gender_threshold": 0.7,
        "prior": None,
        "evidence": {
            "age_temperature": evidence(1.0, 1.246, weight=0.952),
            "gender_temperature": evidence(1.0, 0.986, weight=0.952),
            "age_estimate": evidence("median", "median", weight=1.0),
            "interval_mass": evidence(0.8, 0.8, weight=0.952),
            "gender_threshold": evidence(0.5, 0.7, weight=1.0, faces_needed=500),
        },
    },
    "log_history": [{"eval_loss": 4.0, "epoch": 1.0}],
}


def made_up_metrics(weights_sha256: str, unlabelled: Collection[str] = ()) -> dict:
    """Figures of a model that errs by a few years and a tenth of the genders, on 600 faces.

    Args:
        unlabelled: of "gender", "exact ages" (decades are known) and "ages", what no face is labelled with.
    """
    rng = np.random.default_rng(0)
    ages, genders = rng.integers(0, 90, 600), rng.integers(0, 2, 600)
    # No guess below 0: the probabilities of all such would be equal but for rounding, which differs between processors and
    # would decide the order of these faces, and so an area under the ROC curve.
    guesses = np.abs(ages + rng.normal(0, 6, 600))
    age_probs = np.exp(-np.abs(np.arange(117) - guesses[:, None]) / 4)
    female = 1 / (1 + np.exp(-(genders * 2 - 1) * 2 - rng.normal(0, 1.5, 600)))
    years = (ages // 10 * 10, ages // 10 * 10 + 9) if "exact ages" in unlabelled else (ages, ages)
    predictions = Predictions(
        age_probs=age_probs / age_probs.sum(axis=1, keepdims=True),
        gender_probs=np.stack([1 - female, female], axis=1),
        age_labels=np.full((600, 2), IGNORE_INDEX) if "ages" in unlabelled else np.stack(years, axis=1),
        gender_labels=np.full(600, IGNORE_INDEX) if "gender" in unlabelled else genders,
        races=np.array(["White", "Black", "Asian"])[rng.integers(0, 3, 600)],
        groups=np.arange(600),
    )
    evaluation = Evaluation(predictions, AgeGenderConfig(gender_threshold=0.7), baseline_age=31.0, draws=200)
    return {
        "weights_sha256": weights_sha256,
        "model": "run",
        "dataset": "UTKFace.tar.gz",
        "split": "test",
        "split_seed": 0,
        "splits_sha256": "a0b1",
        "pictures": 600,
        "framing": "face crops as they are",
        "pictures_without_detected_face": None,
        "date": "2026-11-20",
        "network": {"megabytes": 0.1, "milliseconds_on_one_core": 12.3, "processor": "AMD EPYC"},
        **report_scores(evaluation),
        "crop_sweep": [
            {
                "margin": 0.1,
                "rotation_degrees": 0.0,
                "age_mae": {"value": 5.01234, "low": 4.76543, "high": 5.23456, "n": 600},
                "gender_accuracy": {"value": 0.89123, "low": 0.86543, "high": 0.91234, "n": 600},
            },  # a row of an earlier version, and one of this
            {
                "margin": 0.0,
                "rotation_degrees": 0.0,
                "pixels": 24,
                "blur": 0.015,
                "age_mae": {"value": 6.01234, "low": 5.76543, "high": 6.23456, "n": 600},
                "age_interval": {
                    "coverage": {"value": 0.80123, "low": 0.76543, "high": 0.83456, "n": 600},
                    "width_years": {"value": 16.1234, "low": 15.7654, "high": 16.3456, "n": 600},
                },
                "gender_accuracy": {"value": 0.88123, "low": 0.85543, "high": 0.90234, "n": 600},
            },
        ],
    }


def write_made_up_onnx(folder: Path) -> None:
    """A file that stands for an exported network, and what was measured of it."""
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"an exported network")

    def score(value: float) -> dict:
        return {"value": value, "low": value - 0.01, "high": value + 0.02, "n": 600}

    comparison = {
        "weights_sha256": sha256(folder / "model.safetensors"),
        "dataset": "UTKFace.tar.gz",
        "split": "test",
        "pictures": 600,
        "versions": {"onnxruntime": "1.31.1"},
        "files": {
            "model.onnx": {
                "sha256": sha256(folder / "onnx" / "model.onnx"),
                "megabytes": 19.9,
                "largest_difference": 1.4e-05,
                "age_mae": {"before": score(4.38), "after": score(4.41), "change": score(0.03)},
                "gender_accuracy": {"before": score(0.91), "after": score(0.9), "change": score(-0.01)},
            }
        },
    }
    (folder / "onnx" / "comparison.json").write_text(json.dumps(comparison))


def write_made_up_run(folder: Path) -> Path:
    save_tiny_model(folder, gender_threshold=0.7)
    (folder / "training_run.json").write_text(json.dumps(RUN))
    (folder / "metrics.json").write_text(json.dumps(made_up_metrics(sha256(folder / "model.safetensors"))))
    write_made_up_onnx(folder)
    (folder / "figures").mkdir()
    for name in FIGURES:
        Image.new("RGB", (8, 8), "white").save(folder / "figures" / f"{name}.png")
    return folder


def change(path: Path, **values: object) -> None:
    """Replace values of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
