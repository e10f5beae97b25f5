"""A search for better arguments: it resumes, prunes, and refuses what cannot be searched or judged."""

import re
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from scripts.tune import main as tune
from tests.support.training_runs import SMOKE
from trainer.arguments import ARGUMENT_CLASSES
from trainer.experiments.search import SearchSpace
from trainer.recipe import RecipeError, parse_recipe


SPACE = """
learning_rate: {low: 1e-4, high: 1e-2, log: true}
per_device_train_batch_size: [8, 16]
head_dropout: {low: 0, high: 0.5}
erasing: {low: 0.0, high: 0.5}
l1_penalty: [0.0, 1e-6]
age_class_weights: [none, sqrt]
num_train_epochs: {low: 1, high: 2}
"""


@pytest.mark.slow
def test_a_search_is_resumed(quick, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    command = [SMOKE, *quick, "--space", str(space)]
    tune([*command, "--trials", "2"])
    storage = f"sqlite:///{tmp_path / 'run/study.db'}"
    first = optuna.load_study(storage=storage, study_name="search")
    first.ask()  # a trial that a kill leaves behind
    study = tune([*command, "--trials", "3"])
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert len({trial.params["learning_rate"] for trial in study.trials if trial.params}) == 3
    assert all(len(trial.params) == 7 for trial in study.trials if trial.state == TrialState.COMPLETE)
    assert all(len(t.intermediate_values) == t.params["num_train_epochs"] for t in study.trials if t.params)
    printed = capsys.readouterr().out
    assert "| trial | state | age_mae | learning_rate | per_device_train_batch_size |" in printed
    assert f"--learning_rate {study.best_params['learning_rate']:.4g}" in printed
    left = {path.name for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert left == {"experiment.json", "study.db", "trials.md", "trials.json", "trials.png"}
    parse_recipe(re.search(r"trainer\.train (.*)", printed)[1].split(), ARGUMENT_CLASSES)  # the printed command is one

    with pytest.raises(RecipeError, match=r"started with other arguments \(search: learning_rate 0.003, not 0.001\)"):
        tune([*command, "--learning_rate", "1e-3"])
    space.write_text(SPACE.replace("0.5", "0.6"))
    with pytest.raises(RecipeError, match=r"started with other arguments \(search: space"):
        tune(command)


@pytest.mark.slow
def test_bad_trials_are_pruned(quick, tmp_path):
    """Of two learning rates one learns nothing: it is given up once the median says so."""
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: [1e-9, 1e-2]\n")
    study = tune([SMOKE, *quick, "--space", str(space), "--trials", "6"])
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) == 1 for trial in pruned)
    assert len(study.trials) == 6


@pytest.mark.slow
def test_trials_that_diverge_count_and_end_nothing(quick, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: [1e30, 1e31]\n")
    command = [SMOKE, *quick, "--space", str(space), "--early_stopping_patience", "1"]
    study = tune([*command, "--trials", "2"])
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    printed = capsys.readouterr().out
    assert "early_stopping_patience is left out" in printed
    assert printed.count("| pruned |") == 2
    assert len(tune([*command, "--trials", "2"]).trials) == 2


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    (tmp_path / "space.yaml").write_text("l1_penalty: [0, 1e-6]\nmuon: [true]\noptim: [adamw_torch, sgd]\n")
    space = SearchSpace.read(tmp_path / "space.yaml", ["l1_penalty", "muon", "optim"])
    assert space.choices == {"l1_penalty": [0, 1e-6], "muon": [True], "optim": ["adamw_torch", "sgd"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: [1]", "'learning_rat' cannot be searched. Did you mean 'learning_rate'"),
        ("image_size: [32, 64]", "'image_size' cannot be searched"),
        ("learning_rate: {low: 1, high: 1}", "learning_rate: expected a list, or {low, high}"),
        ("learning_rate: {low: 0, high: 1, log: true}", "learning_rate: expected a list, or {low, high}"),
        ("learning_rate: {low: little, high: 1}", "learning_rate: expected a number, got 'little'"),
        ("learning_rate: 3", "learning_rate: expected a list"),
        ("{}", "names nothing to search"),
    ],
)
def test_spaces_that_cannot_be_searched(tmp_path, text, message):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        SearchSpace.read(tmp_path / "space.yaml", ["learning_rate", "train_image_size"])


def test_what_all_trials_share_cannot_be_searched(quick, tmp_path):
    (tmp_path / "space.yaml").write_text("image_size: [32, 64]\n")
    with pytest.raises(RecipeError, match="'image_size' cannot be searched"):
        tune([SMOKE, *quick, "--space", str(tmp_path / "space.yaml")])


@pytest.mark.parametrize("metric", ["loss", "eval_age_loss"])
def test_trials_are_not_judged_by_a_loss_that_is_searched(quick, metric):
    with pytest.raises(RecipeError, match=r"search .* age_sigma_years, gender_label_smoothing.* Judge by age_mae"):
        tune([SMOKE, *quick, "--metric_for_best_model", metric])


@pytest.mark.slow
def test_a_share_of_the_steps_is_searched_where_the_recipe_says_none(quick, tmp_path, capsys):
    recipe, space = tmp_path / "recipe.yaml", tmp_path / "space.yaml"
    recipe.write_text(Path(SMOKE).read_text().replace("warmup_steps: 0.1\n", ""))
    space.write_text("warmup_steps: [0.5]\n")
    command = [str(recipe), *quick, "--space", str(space), "--logging_steps", "1", "--num_train_epochs", "1"]
    tune([*command, "--trials", "1"])
    rates = re.findall(r"'learning_rate': '?([\d.e-]+)", capsys.readouterr().out)
    assert float(rates[0]) == 0, "the first step of a warmup"
