"""How a run learns, by its recipe: early stopping and L1."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.modeling_age_gender import AgeGenderModel
from tests.support.training_runs import SMOKE
from trainer.optimizer import l1_norm
from trainer.recipe import RecipeError
from trainer.train import main


def train(quick: list[str], *overrides: str) -> dict:
    main([SMOKE, *quick, "--report", "false", *overrides])
    return json.loads((Path(quick[3]) / "training_run.json").read_text())


@pytest.mark.slow
def test_early_stopping_by_the_recipe(quick):
    # the largest error counts as best, so that the first epoch stays the best one
    record = train(quick, "--num_train_epochs", "6", "--greater_is_better", "true", "--early_stopping_patience", "2")
    epochs = [entry["epoch"] for entry in record["log_history"] if "eval_loss" in entry]
    assert epochs == [1, 2, 3]
    assert record["arguments"]["early_stopping_patience"] == 2


@pytest.mark.slow
def test_early_stopping_counts_on_in_a_resumed_run(quick, tmp_path):
    output_dir, checkpoints = Path(quick[3]), Path(f"{quick[3]}.checkpoints")
    overrides = ["--num_train_epochs", "6", "--greater_is_better", "true", "--early_stopping_patience", "2"]
    overrides += ["--save_total_limit", "6", "--resume_from_checkpoint", "true"]
    whole = train(quick, *overrides)
    steps = [entry["step"] for entry in whole["log_history"] if "eval_loss" in entry]
    weights = (output_dir / "model.safetensors").read_bytes()
    for killed_after in (3, 2):  # evaluations: when it had stopped, and when the next one was to stop it
        shutil.rmtree(output_dir)
        for step in steps[killed_after:]:
            shutil.rmtree(checkpoints / f"checkpoint-{step}")
        resumed = train(quick, *overrides)
        assert [entry["step"] for entry in resumed["log_history"] if "eval_loss" in entry] == steps
        assert resumed["log_history"][-1]["step"] == steps[-1]
        assert (output_dir / "model.safetensors").read_bytes() == weights


def test_early_stopping_needs_a_best_model(quick):
    with pytest.raises(RecipeError, match="needs load_best_model_at_end"):
        train(quick, "--early_stopping_patience", "2", "--load_best_model_at_end", "false")


@pytest.mark.parametrize(
    ("name", "value"), [("--l1_penalty", "-1"), ("--early_stopping_patience", "0")], ids=["l1", "patience"]
)
def test_learning_argument_out_of_range(quick, name, value):
    with pytest.raises(RecipeError, match=rf"{name[2:]} must be .* or more, got {value}"):
        train(quick, name, value)


@pytest.mark.slow
def test_l1_keeps_the_weights_small(quick, tmp_path):
    norms, losses = [], []
    for penalty in ("0", "0.01"):
        quick[3] = str(tmp_path / f"run_{penalty}")
        record = train(quick, "--l1_penalty", penalty, "--num_train_epochs", "1")
        norms.append(l1_norm(AgeGenderModel.from_pretrained(quick[3])).item())
        losses.append(next(entry for entry in record["log_history"] if "loss" in entry))
    assert norms[1] < 0.9 * norms[0]
    assert losses[1]["loss"] > losses[1]["age_loss"] + losses[1]["gender_loss"] + 1  # the penalty counts only there
    assert losses[0]["loss"] == pytest.approx(losses[0]["age_loss"] + losses[0]["gender_loss"], rel=1e-3)


def test_l1_norm_counts_matrices_only():
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, -0.5)
    torch.nn.init.constant_(model.bias, 9.0)
    assert l1_norm(model).item() == 2.0
