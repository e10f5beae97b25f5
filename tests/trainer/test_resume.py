"""A killed run resumes from a checkpoint and ends with the same weights, or says why it cannot."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.training_runs import (
    ENVIRONMENT,
    EVERY_FIVE_STEPS,
    ROOT,
    arguments,
    command,
    finish,
    kill_after,
    launch,
    losses,
    record_of,
)
from trainer.checkpoints import CheckpointError, last_whole_checkpoint
from trainer.recipe import RecipeError
from trainer.train import main


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.mark.slow
def test_a_run_killed_while_writing_a_checkpoint_resumes_from_the_last_whole_one(faces, tmp_path, varied_run):
    output_dir, half = tmp_path / "run", tmp_path / "run.checkpoints/checkpoint-24"
    half.mkdir(parents=True)
    # writing it waits for a reader, so the kill comes between the weights and the rest
    os.mkfifo(half / "optimizer.pt")
    with subprocess.Popen(
        command(faces, output_dir, "--resume_from_checkpoint", "true"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as run:
        for _ in range(600):
            if (half / "model.safetensors").exists() or run.poll() is not None:
                break
            time.sleep(0.2)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert run.returncode == -signal.SIGKILL
    (half / "optimizer.pt").unlink()
    assert (half / "model.safetensors").exists()
    assert not (half / "trainer_state.json").exists()

    done = finish(faces, output_dir, "--resume_from_checkpoint", "true")
    assert done.returncode == 0, done.stderr
    expected, actual = (load_file(folder / "model.safetensors") for folder in (varied_run, output_dir))
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-6)
    assert record_of(output_dir)["best_metric"] == pytest.approx(record_of(varied_run)["best_metric"], rel=1e-5)


def is_in_the_middle_of_an_epoch(checkpoint: Path, steps_per_epoch: int = 12) -> bool:
    step = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
    return step > steps_per_epoch and step % steps_per_epoch > 0


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_ends_with_the_same_weights(faces, tmp_path):
    main(arguments(faces, tmp_path / "undisturbed", *EVERY_FIVE_STEPS))
    kill_after(19, command(faces, tmp_path / "run", *EVERY_FIVE_STEPS))
    assert is_in_the_middle_of_an_epoch(last_whole_checkpoint(tmp_path / "run.checkpoints"))

    main(arguments(faces, tmp_path / "run", *EVERY_FIVE_STEPS, "--resume_from_checkpoint", "true"))
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("undisturbed", "run"))
    assert whole == resumed
    whole, resumed = (record_of(tmp_path / name) for name in ("undisturbed", "run"))
    assert losses(whole) == losses(resumed)
    assert whole["best_metric"] == resumed["best_metric"]


@pytest.mark.slow
def test_two_processes_killed_within_an_epoch_end_with_the_same_weights(faces, tmp_path):
    """Each resumes with its own random state."""
    overrides = [*EVERY_FIVE_STEPS, "--num_train_epochs", "2", "--per_device_train_batch_size", "8"]
    overrides += ["--resume_from_checkpoint", "true"]
    done = finish(faces, tmp_path / "undisturbed", *overrides, launcher=launch("cpu"))
    assert done.returncode == 0, done.stderr
    kill_after(18, command(faces, tmp_path / "run", *overrides, launcher=launch("cpu")))
    assert is_in_the_middle_of_an_epoch(last_whole_checkpoint(tmp_path / "run.checkpoints"))

    done = finish(faces, tmp_path / "run", *overrides, launcher=launch("cpu"))
    assert done.returncode == 0, done.stderr
    whole, resumed = (record_of(tmp_path / name) for name in ("undisturbed", "run"))
    assert (whole["starts"], resumed["starts"], resumed["processes"]) == (1, 2, 2)
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-5)
    assert resumed["best_metric"] == pytest.approx(whole["best_metric"], rel=1e-5)
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("undisturbed", "run"))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_another_global_batch_is_refused_and_another_split_of_the_same_is_not(faces, tmp_path, varied_run):
    checkpoint = varied_run.with_name("run.checkpoints") / "checkpoint-24"
    overrides = ["--per_device_train_batch_size", "8", "--resume_from_checkpoint", str(checkpoint)]
    with pytest.raises(CheckpointError, match=r"started with a global batch of 16, this start has 8 .*= 1 x 8 x 1\)"):
        main(arguments(faces, tmp_path / "run", *overrides))
    main(arguments(faces, tmp_path / "run", *overrides, "--gradient_accumulation_steps", "2"))
    assert len(losses(record_of(tmp_path / "run"))) == 36


@pytest.mark.parametrize("other", [["--max_samples", "200"], ["--dataloader_drop_last", "true"]])
def test_another_number_of_steps_per_epoch_is_refused(faces, tmp_path, other):
    """The Trainer would resume in another epoch, or at another place in it."""
    begun = ["--max_samples", "230", "--num_train_epochs", "1"]  # 184 to train: eleven batches and half a one
    main(arguments(faces, tmp_path / "begun", *begun))
    checkpoint = str(tmp_path / "begun.checkpoints/checkpoint-12")
    with pytest.raises(
        CheckpointError, match=r"started with 12 steps per epoch, this start has 1\d: it trains on other pictures"
    ):
        main(arguments(faces, tmp_path / "run", *begun, *other, "--resume_from_checkpoint", checkpoint))


def test_a_checkpoint_without_an_optimizer_is_refused(faces, tmp_path):
    begun = [*arguments(faces, tmp_path / "run"), "--save_only_model", "true", "--num_train_epochs", "1"]
    main(begun)
    shutil.rmtree(tmp_path / "run")  # as a kill before it was written leaves it
    for checkpoint in ("true", str(tmp_path / "run.checkpoints/checkpoint-12")):
        with pytest.raises(RecipeError, match=r"checkpoint-12 holds the weights without the optimizer"):
            main([*begun, "--resume_from_checkpoint", checkpoint])


def test_a_checkpoint_of_another_architecture_is_refused(faces, tmp_path, varied_run):
    checkpoint = shutil.copytree(varied_run.with_name("run.checkpoints") / "checkpoint-24", tmp_path / "checkpoint-24")
    deeper = json.dumps(
        {
            "model_type": "vit",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "image_size": 32,
            "patch_size": 8,
        }
    )
    overrides = ["--backbone_config", deeper, "--resume_from_checkpoint", str(checkpoint)]
    with pytest.raises(CheckpointError, match=r"does not fit the recipe\. .* 16 are missing, .*Resume with the recipe"):
        main(arguments(faces, tmp_path / "run", *overrides))


def test_a_folder_with_something_in_it_is_left_alone(faces, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError, match="is not empty"):
        main(arguments(faces, tmp_path / "run"))


def test_an_incomplete_checkpoint_is_refused(faces, tmp_path):
    (tmp_path / "checkpoint-12").mkdir()
    (tmp_path / "checkpoint-12/trainer_state.json").write_text('{"global_step": 1')
    with pytest.raises(RecipeError, match="none that was written whole"):
        main(arguments(faces, tmp_path / "run", "--resume_from_checkpoint", str(tmp_path / "checkpoint-12")))
