"""Training on a stream, which is read again in every epoch and has no known length."""

import shutil
from pathlib import Path

import pytest

from model.modeling_age_gender import AgeGenderModel
from tests.support.made_up_faces import write_utkface_folder
from tests.support.training_runs import arguments, losses, record_of
from trainer.data.arguments import DataArguments
from trainer.data.manifest import build_manifest, write_manifest
from trainer.data.sources import read_pictures
from trainer.train import main


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def stream(tmp_path) -> list[str]:
    """Arguments that stream 96 faces, of which 77 train, in steps of 16 that each leave a checkpoint."""
    data_args = DataArguments(dataset=str(write_utkface_folder(tmp_path / "faces", count=96, size=40)))
    write_manifest(build_manifest(read_pictures(data_args), data_args, seed=0), tmp_path / "manifest.csv")
    overrides = ["--streaming", "true", "--manifest", str(tmp_path / "manifest.csv"), "--max_steps", "4"]
    overrides += ["--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy", "steps", "--save_steps", "1"]
    return arguments(Path(data_args.dataset), tmp_path / "run", *overrides, "--save_total_limit", "10")


def test_a_stream_that_ends_early_costs_no_trained_model(stream, tmp_path):
    """Its faces are counted when all is trained, and one of those to test on is gone."""
    manifest = (tmp_path / "manifest.csv").read_text().splitlines()
    gone = next(row.split(",")[0] for row in manifest if ",test," in row)
    (tmp_path / "faces" / gone).unlink()
    with pytest.raises(ValueError, match="in this split were not found"):
        main(stream)
    AgeGenderModel.from_pretrained(tmp_path / "run")
    assert not (tmp_path / "run/training_run.json").exists()


def test_a_run_resumed_at_its_last_step_trains_no_further(stream, tmp_path):
    main(stream)
    whole, weights = record_of(tmp_path / "run"), (tmp_path / "run/model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")  # as a kill before it was written leaves it
    main([*stream, "--resume_from_checkpoint", "true"])
    resumed = record_of(tmp_path / "run")
    assert len(losses(resumed)) == len(losses(whole)) == 4
    assert (tmp_path / "run/model.safetensors").read_bytes() == weights


def test_a_stream_resumed_within_an_epoch_ends_with_the_same_weights(stream, tmp_path):
    main(stream)
    whole, weights = record_of(tmp_path / "run"), (tmp_path / "run/model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")
    for step in (3, 4):  # as a kill in the third step leaves it
        shutil.rmtree(tmp_path / f"run.checkpoints/checkpoint-{step}")
    main([*stream, "--resume_from_checkpoint", "true"])
    assert losses(record_of(tmp_path / "run")) == losses(whole)
    assert (tmp_path / "run/model.safetensors").read_bytes() == weights


def test_a_stream_resumed_after_its_first_epoch_warns_that_the_order_changes(stream, tmp_path, caplog):
    """An epoch has five steps."""
    main([*stream, "--max_steps", "7"])
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / "run.checkpoints/checkpoint-7")
    assert "resumes at the beginning of an epoch" not in caplog.text
    main([*stream, "--max_steps", "7", "--resume_from_checkpoint", "true"])
    assert "resumes at the beginning of an epoch" in caplog.text
    assert len(losses(record_of(tmp_path / "run"))) == 7
