"""A model that was evaluated on its test split, for the tests of what evaluating writes."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.made_up_faces import write_noise
from tests.support.tiny_model import save_tiny_model
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.run_record import describe_splits


@pytest.fixture(scope="session")
def data_args(tmp_path_factory) -> DataArguments:
    folder = tmp_path_factory.mktemp("data")
    write_noise(folder / "faces", 200)
    return DataArguments(dataset=str(folder / "faces"), cache_dir=str(folder / "cache"))


@pytest.fixture(scope="session")
def run(tmp_path_factory, data_args) -> Path:
    """A model whose run record names the splits of seed 3, evaluated; tests add external test sets to its metrics only."""
    folder = tmp_path_factory.mktemp("run")
    save_tiny_model(folder)
    history = [{"loss": 4.0, "age_loss": 3.4, "gender_loss": 0.6, "epoch": 1.0}, {"eval_loss": 4.1, "epoch": 1.0}]
    record = {
        "arguments": asdict(data_args),
        "data": describe_splits(load_faces(data_args, seed=3)) | {"seed": 3},
        "log_history": history,
    }
    (folder / "training_run.json").write_text(json.dumps(record))
    evaluate_model(EvaluationArguments(model=str(folder), draws=50, crop_sweep=True), data_args)
    return folder


@pytest.fixture(scope="session")
def metrics(run) -> dict:
    return json.loads((run / "metrics.json").read_text())
