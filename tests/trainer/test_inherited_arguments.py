"""Every argument that transformers' TrainingArguments brings along works, or is refused by name before training."""

import os
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import transformers
from transformers import TrainingArguments

from tests.support.training_runs import SMOKE, arguments, losses, record_of
from trainer.arguments import ARGUMENT_CLASSES
from trainer.experiments.search import SEARCHABLE
from trainer.inherited_arguments import REFUSED, WORKING
from trainer.recipe import RecipeError, parse_recipe
from trainer.train import main


WORKS = [name for names in WORKING.values() for name in names]

# Values other than the defaults, with which the smoke recipe trains: those of one entry together.
USED = {
    "an optimizer with its options": {
        "optim": "rmsprop",
        "optim_args": "momentum=0.5",
        "learning_rate": "1e-3",
        "weight_decay": "0.1",
        "max_grad_norm": "0.5",
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": '{"min_lr": 1e-5}',
        "warmup_steps": "2",
        "gradient_accumulation_steps": "2",
        "num_train_epochs": "1",
        "train_sampling_strategy": "sequential",
        "accelerator_config": '{"split_batches": true}',
        "project": "faces",
        "run_name": "one",
        "full_determinism": "true",
        "seed": "3",
        "data_seed": "4",
    },
    "Adam with its options": {
        "optim": "adamw_torch",
        "adam_beta1": "0.8",
        "adam_beta2": "0.99",
        "adam_epsilon": "1e-6",
        "max_steps": "4",
        "per_device_train_batch_size": "8",
        "per_device_eval_batch_size": "4",
        "eval_strategy": "steps",
        "eval_steps": "2",
        "eval_delay": "2",
        "eval_on_start": "true",
        "eval_accumulation_steps": "1",
        "save_strategy": "steps",
        "save_steps": "2",
        "save_total_limit": "1",
        "save_only_model": "true",
        "save_on_each_node": "true",
        "metric_for_best_model": "gender_accuracy",
        "greater_is_better": "true",
        "activation_checkpointing": "true",
        "activation_checkpointing_kwargs": '{"use_reentrant": false}',
        "bf16": "true",
        "torch_empty_cache_steps": "1",
        "debug": "underflow_overflow",
        "skip_memory_metrics": "false",
    },
    "logs and loading": {
        "max_steps": "2",
        "logging_strategy": "epoch",
        "logging_first_step": "true",
        "logging_nan_inf_filter": "true",
        "log_level": "error",
        "log_level_replica": "error",
        "log_on_each_node": "false",
        "load_best_model_at_end": "false",
        "save_strategy": "no",
        "dataloader_num_workers": "1",
        "dataloader_persistent_workers": "true",
        "dataloader_prefetch_factor": "4",
        "dataloader_multiprocessing_context": "spawn",
        "dataloader_pin_memory": "false",
        "dataloader_in_order": "false",
        "dataloader_drop_last": "true",
    },
}
TRIED_ELSEWHERE = {
    **dict.fromkeys(("output_dir", "resume_from_checkpoint", "disable_tqdm"), "test_resume.py"),
    **dict.fromkeys(("push_to_hub", "hub_model_id"), "test_train_from_hub.py"),
    **dict.fromkeys(("use_cpu", "logging_steps"), "the smoke recipe"),
    "report_to": "test_tracking.py",
    "remove_unused_columns": "refused unless false, below",
    **dict.fromkeys(("ddp_timeout", "ddp_find_unused_parameters"), "test_launch.py"),
}
NEEDS_MORE = {
    **dict.fromkeys(("fp16", "tf32"), "a GPU"),
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), "minutes of compilation"),
    **dict.fromkeys(("ddp_backend", "ddp_static_graph", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"), "processes"),
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), "a Space"),
    "hub_private_repo": "an account",
    "ignore_data_skip": "a killed run",
}


def test_every_argument_of_transformers_is_decided_upon():
    """One that a new version adds fails here: enter it in trainer/inherited_arguments.py."""
    assert sorted([*WORKS, *REFUSED]) == sorted(field.name for field in fields(TrainingArguments))


def test_every_argument_that_works_is_tried_or_says_what_that_needs():
    tried = [name for together in USED.values() for name in together]
    assert set(WORKS) == {*tried, *TRIED_ELSEWHERE, *NEEDS_MORE}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_argument_is_named_with_what_to_use_instead(tmp_path, name):
    (tmp_path / "recipe.yaml").write_text(f"{name}: secret")
    dashed = name.replace("_", "-")
    flags = [
        [f"--{name}", "secret"],
        [f"--{name}=secret"],
        [f"--{dashed}", "secret"],
        [f"--no_{name}"],
        [f"--no-{dashed}"],
    ]
    for argv in ([str(tmp_path / "recipe.yaml")], *flags):
        with pytest.raises(RecipeError, match=rf": {name} is not used here: \w.*\.$") as error:
            parse_recipe(argv, ARGUMENT_CLASSES)
        assert "secret" not in str(error.value)  # it may be a token
    assert not any(name in names for names in SEARCHABLE.values())


def test_help_offers_what_can_be_used(capsys):
    with pytest.raises(SystemExit):
        parse_recipe(["--help"], ARGUMENT_CLASSES)
    offered = capsys.readouterr().out
    for name in WORKS:
        assert f"--{name} " in offered
    for name in REFUSED:
        assert f"--{name} " not in offered


def test_no_suggestion_is_a_refused_argument():
    with pytest.raises(RecipeError, match=r"unknown argument --hub_tokens\.(?! Did you mean 'hub_token'\?)"):
        parse_recipe(["--hub_tokens", "1"], ARGUMENT_CLASSES)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--remove_unused_columns", "true"], r"remove_unused_columns: true would remove the pixels"),
        (["--train_sampling_strategy", "group_by_length"], r"expected random or sequential, got group_by_length"),
        (["--optim", "galore_adamw"], r"optim: galore_adamw is made for language models.*muon: true"),
        (["--optim", "adamw_bnb_8bit"], r"optim: adamw_bnb_8bit cannot be used: .*bitsandbytes"),
        (["--optim", "nothing"], r"optim: invalid choice: 'nothing'|'nothing' is not a valid OptimizerNames"),
        (["--lr_scheduler_type", "cosine_with_min_lr"], r"lr_scheduler_type: cosine_with_min_lr cannot be used"),
        (["--lr_scheduler_kwargs", '{"speed": 2}'], r"lr_scheduler_type: cosine cannot be used with .*speed"),
        (["--report_to", "wandb"], r"report_to: wandb is not installed here, or is no tracker\. There are .*trackio"),
    ],
)
def test_what_cannot_work_is_found_before_the_faces_are_read(argv, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe([SMOKE, *argv], ARGUMENT_CLASSES)


@pytest.fixture
def process_restored(monkeypatch):
    """Undo what `log_level` and `full_determinism` change in this process."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    verbosity = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(verbosity)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


@pytest.mark.slow
@pytest.mark.usefixtures("single_thread", "process_restored")
@pytest.mark.parametrize("together", USED.values(), ids=USED)
def test_a_run_with_other_values_than_the_defaults(faces, tmp_path, together):
    argv = [word for word in arguments(faces, tmp_path / "run") if word not in ("--logging_steps", "1")]
    main([*argv, *(f"--{name}={value}" for name, value in together.items())])
    assert losses(record_of(tmp_path / "run"))


def test_no_recipe_says_what_is_the_default_here():
    for recipe in Path("trainer/recipes").glob("*.yaml"):
        assert "remove_unused_columns" not in recipe.read_text()
