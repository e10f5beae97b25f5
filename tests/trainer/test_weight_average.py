"""The moving average of the weights: what it is, where it is used, and that a resumed or extended run keeps it."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.support.training_runs import EVERY_FIVE_STEPS, arguments, losses, record_of
from trainer.checkpoints import CheckpointError
from trainer.recipe import RecipeError
from trainer.train import main
from trainer.weight_average import AVERAGE_FILE, WeightAverage


pytestmark = pytest.mark.usefixtures("single_thread")
AVERAGED = ["--ema_decay", "0.9", "--stem_channels", "4", "8", "16", *EVERY_FIVE_STEPS]


def test_average_of_weights_and_buffers():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.5)
    for value in (1.0, 3.0):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        model.num_batches_tracked += 1
        average.update(model)
    # decays of 1/10 and 2/11 as long as those are less than 0.5; the weight began as 1, the mean as 0
    with average.applied_to(model):
        torch.testing.assert_close(model.weight.detach(), torch.full((2,), 1.0 * 2 / 11 + 3.0 * 9 / 11))
        torch.testing.assert_close(model.running_mean, torch.full((2,), 0.9 * 2 / 11 + 3.0 * 9 / 11))
        assert model.num_batches_tracked == 2
    assert model.weight.tolist() == [3.0, 3.0]


@pytest.fixture(scope="module")
def averaged_run(faces, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("outputs") / "run"
    main(arguments(faces, output_dir, *AVERAGED))
    return output_dir


def test_the_best_average_is_saved(averaged_run):
    best = averaged_run.with_name("run.checkpoints") / f"checkpoint-{record_of(averaged_run)['best_step']}"
    average, saved = load_file(best / AVERAGE_FILE), load_file(averaged_run / "model.safetensors")
    own = load_file(best / "model.safetensors")
    name = "backbone.embeddings.position_embeddings"
    assert torch.equal(saved[name], average[name])
    assert not torch.equal(saved[name], own[name])


def test_it_is_the_average_that_is_measured(averaged_run, faces, tmp_path):
    """Steps are the same without it; what is measured on the way is not."""
    main(arguments(faces, tmp_path / "run", *AVERAGED[2:]))
    with_average, without = record_of(averaged_run), record_of(tmp_path / "run")
    assert losses(with_average) == losses(without)
    measured = [
        [entry["eval_loss"] for entry in run["log_history"] if "eval_loss" in entry] for run in (with_average, without)
    ]
    assert all(ours != own for ours, own in zip(*measured, strict=True))


def test_a_resumed_run_ends_with_the_same_weights(averaged_run, faces, tmp_path):
    checkpoint = averaged_run.with_name("run.checkpoints") / "checkpoint-35"
    shutil.copytree(checkpoint, tmp_path / "run.checkpoints" / checkpoint.name)
    main(arguments(faces, tmp_path / "run", *AVERAGED, "--resume_from_checkpoint", "true"))
    whole, resumed = ((folder / "run" / "model.safetensors").read_bytes() for folder in (averaged_run.parent, tmp_path))
    assert whole == resumed


def test_a_run_with_a_constant_rate_can_be_extended(faces, tmp_path):
    """As long as its cooldown has not begun: it ends as if the larger number of epochs had been asked for at once."""
    schedule = ["--lr_scheduler_type", "warmup_stable_decay", "--lr_scheduler_kwargs", '{"num_decay_steps": 6}']
    schedule += ["--warmup_steps", "4", *AVERAGED, "--save_total_limit", "9"]
    main(arguments(faces, tmp_path / "whole", *schedule, "--num_train_epochs", "4"))
    main(arguments(faces, tmp_path / "run", *schedule))
    last = tmp_path / "run.checkpoints" / "checkpoint-30"  # six steps before its end
    for checkpoint in last.parent.glob("checkpoint-3[1-9]"):
        shutil.rmtree(checkpoint)
    shutil.rmtree(tmp_path / "run")
    extended = [*schedule, "--num_train_epochs", "4", "--resume_from_checkpoint", "true"]
    main(arguments(faces, tmp_path / "run", *extended))
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run"))
    assert whole == resumed


def test_a_run_without_an_average_cannot_be_resumed_with_one(averaged_run, faces, tmp_path):
    checkpoint = averaged_run.with_name("run.checkpoints") / "checkpoint-35"
    shutil.copytree(checkpoint, tmp_path / "run.checkpoints" / checkpoint.name)
    (tmp_path / "run.checkpoints" / checkpoint.name / AVERAGE_FILE).unlink()
    with pytest.raises(CheckpointError, match="started without ema_decay"):
        main(arguments(faces, tmp_path / "run", *AVERAGED, "--resume_from_checkpoint", "true"))


@pytest.mark.parametrize("value", ["-0.1", "1"])
def test_decay_out_of_range(faces, tmp_path, value):
    with pytest.raises(RecipeError, match=r"ema_decay must be 0 or more and below 1, got"):
        main(arguments(faces, tmp_path / "run", f"--ema_decay={value}"))
