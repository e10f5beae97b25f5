"""Recipes: every one in the repository is valid, the command line wins, mistakes are named."""

import importlib.machinery
import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from trainer.arguments import ARGUMENT_CLASSES
from trainer.devices import DeviceError, check_gpu_is_there, check_processes
from trainer.experiments.runs import read_comparison
from trainer.experiments.search import SearchSpace
from trainer.recipe import RecipeError, parse_recipe
from trainer.run_record import command_line


CPU = torch.device("cpu")


@dataclass
class Arguments:
    learning_rate: float = 1e-3
    epochs: int = 1
    bf16: bool = False
    backbone_config: str | None = None
    age_ranges: list[str] | None = field(default=None)


def parse(tmp_path, text, *overrides):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    return parse_recipe([str(recipe), *overrides], (Arguments,))[0]


def test_values_of_every_kind(tmp_path):
    text = "learning_rate: 1e-4\nbf16: true\nbackbone_config: {model_type: vit}\nage_ranges: [0-17, 18+]\nepochs: null"
    assert parse(tmp_path, text) == Arguments(1e-4, 1, True, '{"model_type": "vit"}', ["0-17", "18+"])


def test_command_line_wins(tmp_path):
    assert parse(tmp_path, "epochs: 3\nage_ranges: [0+]", "--epochs", "5", "--age_ranges", "0-9", "10+") == Arguments(
        epochs=5, age_ranges=["0-9", "10+"]
    )


def test_unknown_key_names_the_nearest(tmp_path):
    with pytest.raises(RecipeError, match=r"unknown key 'learning_rat'\. Did you mean 'learning_rate'\?"):
        parse(tmp_path, "learning_rat: 1")


@pytest.mark.parametrize(
    ("old", "new"), [("start_from", "finetune_from"), ("mirror_average", "flip_tta"), ("test_share", "test_fraction")]
)
def test_a_renamed_argument_names_the_new_one(tmp_path, old, new):
    (tmp_path / "recipe.yaml").write_text(f"{old}: 1")
    for argv in ([str(tmp_path / "recipe.yaml")], [f"--{old}", "1"], [f"--{old}=1"], [f"--{old.replace('_', '-')}=1"]):
        with pytest.raises(RecipeError, match=rf"unknown (key|argument) .*\. It is called '{new}' now\."):
            parse_recipe(argv, ARGUMENT_CLASSES)
    with pytest.raises(
        RecipeError, match=r"also_train_on: unknown key 'test_share'\. It is called 'test_fraction' now"
    ):
        parse_recipe([SMOKE, "--also_train_on", '{"dataset": "faces", "test_share": 0.1}'], ARGUMENT_CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a list", "must hold lines of `name: value`, got list"), ("a: [", "is not YAML")],
)
def test_files_that_are_no_recipe(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        parse(tmp_path, text)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (
            lambda path: parse_recipe([str(path)], (Arguments,)),
            r"No recipe at .*such as trainer/recipes/vit_tiny\.yaml",
        ),
        (read_comparison, r"No comparison at .*such as trainer/comparisons/losses\.yaml"),
        (lambda path: SearchSpace.read(path, ["epochs"]), r"No search space at .*such as the one that .*scripts\.tune"),
    ],
)
def test_a_missing_file_is_called_what_it_should_be(read, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        read(tmp_path / "none.yaml")


def test_a_token_in_a_recipe_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"hub_token is not used here: .*`hf auth login`") as error:
        parse(tmp_path, "epochs: 3\nhub_token: hf_secret")
    assert "hf_secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("epochs: many", [], r"recipe\.yaml: epochs: invalid int value: 'many'\.$"),
        ("epochs: 2.5", [], r"recipe\.yaml: epochs: invalid int value: '2\.5'"),
        ("learning_rate: true", [], r"recipe\.yaml: learning_rate: invalid float value: 'True'"),
        ("bf16: perhaps", [], r"recipe\.yaml: bf16: Truthy value expected: got perhaps"),
        ("learning_rate: [1, 2]", [], r"recipe\.yaml: learning_rate: expected one value, got also '2'"),
        ("learning_rate: {low: 1}", [], r"recipe\.yaml: learning_rate: invalid float value: '{\"low\": 1}'"),
        ("epochs: 1", ["--epochs", "few"], r"command line: epochs: invalid int value: 'few'"),
        ("epochs: 1", ["--epoch", "2"], r"command line: unknown argument --epoch\. Did you mean 'epochs'\?"),
        ("epochs: 1", ["--epochs"], "command line: epochs: expected one argument"),
    ],
)
def test_a_value_of_the_wrong_type_names_key_and_value(tmp_path, text, overrides, message):
    with pytest.raises(RecipeError, match=message):
        parse(tmp_path, text, *overrides)


def test_a_second_recipe_is_no_argument(tmp_path):
    with pytest.raises(RecipeError, match=r"expected one recipe and then --name value, got 'b\.yaml'"):
        parse(tmp_path, "epochs: 3", "b.yaml")


def test_the_recorded_command_can_be_typed(monkeypatch, tmp_path):
    also = f'{{"dataset": "{tmp_path}", "align": true}}'
    monkeypatch.setattr("sys.argv", ["train.py", "--dataset", str(tmp_path), "--also_train_on", also])
    typed = shlex.split(command_line(CPU, [str(tmp_path)]))
    here = tmp_path.name
    expected = ["--dataset", here, "--also_train_on", also.replace(str(tmp_path), here)]
    assert typed[-len(expected) :] == expected


@pytest.mark.parametrize(
    ("environment", "gpu", "launcher"),
    [
        ({}, False, "python -m"),
        ({"WORLD_SIZE": "1"}, True, "python -m"),
        (
            {"WORLD_SIZE": "2"},
            False,
            "accelerate launch --config_file trainer/accelerate/cpu.yaml --num_processes 2 -m",
        ),
        (
            {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"},
            True,
            "accelerate launch --config_file trainer/accelerate/multi_gpu.yaml --num_processes 8 -m",
        ),
        (
            {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"},
            True,
            "accelerate launch --config_file trainer/accelerate/multi_machine.yaml --num_machines 2 --num_processes 16 -m",
        ),
        (
            {"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"},
            True,
            "accelerate launch --config_file trainer/accelerate/fsdp.yaml --num_processes 2 -m",
        ),
    ],
)
def test_the_recorded_command_names_the_launcher(monkeypatch, environment, gpu, launcher):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    module = importlib.machinery.ModuleSpec("trainer.train", loader=None)  # as `python -m` leaves it
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", module)
    monkeypatch.setattr("sys.argv", ["train.py", "recipe.yaml"])
    assert command_line(torch.device("cuda") if gpu else CPU) == f"{launcher} trainer.train recipe.yaml"


SMOKE = "trainer/recipes/smoke.yaml"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("age_mea", r"unknown metric 'age_mea'\. Did you mean 'age_mae'\? There are loss, "),
        ("eval_happiness", r"unknown metric 'happiness'\. There are loss, "),
    ],
)
def test_a_metric_that_no_evaluation_gives(metric, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe([SMOKE, "--metric_for_best_model", metric], ARGUMENT_CLASSES)


@pytest.mark.parametrize(
    ("metric", "greater_is_better"),
    [("age_mae", False), ("eval_age_mae", False), ("gender_loss", False), ("gender_accuracy", True), ("age_cs5", True)],
)
def test_what_is_better_follows_from_the_metric(caplog, metric, greater_is_better):
    argv = [SMOKE, "--metric_for_best_model", metric]
    assert parse_recipe(argv, ARGUMENT_CLASSES)[-1].greater_is_better is greater_is_better
    assert not caplog.text
    otherwise = parse_recipe([*argv, "--greater_is_better", str(not greater_is_better)], ARGUMENT_CLASSES)[-1]
    assert otherwise.greater_is_better is not greater_is_better
    assert "Left out, it follows from the metric." in caplog.text


def test_processes_wait_long_for_the_faces():
    assert parse_recipe([SMOKE], ARGUMENT_CLASSES)[-1].ddp_timeout == 24 * 60 * 60
    assert parse_recipe([SMOKE, "--ddp_timeout", "60"], ARGUMENT_CLASSES)[-1].ddp_timeout == 60


def test_a_gpu_that_is_asked_for_and_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RecipeError, match=r"A GPU is asked for, but .*\)$"):
        parse_recipe(["trainer/recipes/vit_base.yaml"], ARGUMENT_CLASSES)


@pytest.mark.parametrize(("named", "use_cpu", "refused"), [("0", False, True), ("0", True, False), ("", False, False)])
def test_a_gpu_that_is_named_and_not_there(monkeypatch, named, use_cpu, refused):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with pytest.raises(DeviceError, match=r"GPU 0 is asked for .* Add --use_cpu true") if refused else nullcontext():
        check_gpu_is_there(use_cpu)


def test_processes_for_gpus_that_are_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(2)
    with pytest.raises(DeviceError, match=r"2 processes were launched.*Add --use_cpu true"):
        check_processes(1)


@pytest.mark.parametrize("recipe", sorted(Path("trainer/recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid(recipe, tmp_path):
    # use_cpu: bf16 is refused where there is neither a GPU nor this
    overrides = ["--use_cpu", "true"]
    if "finetune_from: outputs/" in recipe.read_text():  # of another recipe, which nobody has run here
        overrides += ["--finetune_from", "model"]
    model_args, data_args, *_, training_args = parse_recipe([str(recipe), *overrides], ARGUMENT_CLASSES)
    assert model_args.finetune_from or model_args.backbone or model_args.backbone_config
    assert data_args.dataset
    assert training_args.load_best_model_at_end
    assert f"-m trainer.train {recipe}" in recipe.read_text()
