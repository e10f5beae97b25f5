"""A run gives the same result to the bit, records how it was made, and stops where it diverges."""

import pytest
from safetensors.torch import load_file

from tests.support.training_runs import arguments, losses, record_of, threads
from trainer.checkpoints import TrainingDiverged
from trainer.train import main


pytestmark = pytest.mark.usefixtures("single_thread")


def test_the_same_seed_gives_the_same_weights_to_the_bit(faces, tmp_path, varied_run):
    main(arguments(faces, tmp_path / "run"))
    first, second = ((folder / "model.safetensors").read_bytes() for folder in (varied_run, tmp_path / "run"))
    assert first == second
    first, second = record_of(varied_run), record_of(tmp_path / "run")
    assert losses(first) == losses(second)
    assert first["data"] == second["data"]


def test_so_do_threads_with_bf16_muon_dropout_and_a_stem(faces, tmp_path):
    overrides = ["--max_samples", "60", "--num_train_epochs", "1", "--stem_channels", "4", "8", "16"]
    overrides += ["--muon", "true", "--bf16", "true", "--head_dropout", "0.2"]
    with threads(2):
        for name in ("first", "second"):
            main(arguments(faces, tmp_path / name, *overrides))
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


def test_the_record_says_where_and_on_what(varied_run):
    record = record_of(varied_run)
    assert len(record["data"]["manifest_sha256"]) == 64
    assert {"commit", "versions", "hardware", "seconds", "recipe_text", "arguments", "command"} <= set(record)


def test_a_non_finite_loss_stops_the_run(faces, tmp_path):
    overrides = ["--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "no"]
    overrides += ["--load_best_model_at_end", "false", "--learning_rate", "1e30", "--max_grad_norm", "0"]
    with pytest.raises(
        TrainingDiverged, match=r"^(The loss is (nan|inf) at|Weights are NaN or Inf after) step \d+\."
    ) as error:
        main(arguments(faces, tmp_path / "run", *overrides))
    last = tmp_path / "run.checkpoints" / str(error.value).rsplit("/", 1)[1].rstrip(".")
    weights = load_file(last / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_losses_that_are_checked_together_name_the_first_non_finite_step(faces, tmp_path):
    overrides = ["--save_strategy", "no", "--eval_strategy", "no", "--load_best_model_at_end", "false"]
    overrides += ["--learning_rate", "1e30", "--max_grad_norm", "0", "--warmup_steps", "0"]
    with pytest.raises(TrainingDiverged, match=r"^The loss is (nan|inf) at step 2\. There is no checkpoint yet"):
        main(arguments(faces, tmp_path / "run", *overrides))


def test_an_evaluation_with_non_finite_outputs_stops_the_run(faces, tmp_path):
    """Which comes before the checkpoint of the same step."""
    overrides = ["--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "steps", "--eval_steps", "1"]
    overrides += ["--learning_rate", "1e30", "--max_grad_norm", "0"]
    message = r"^The model's outputs are NaN or Inf after step \d+\. The last whole checkpoint is .*/checkpoint-"
    with pytest.raises(TrainingDiverged, match=message):
        main(arguments(faces, tmp_path / "run", *overrides))
