"""Several runs compared: cross-validation and comparisons, which resume after a kill and refuse other arguments."""

import json
import re
from pathlib import Path

import pytest

from scripts import compare_recipes, cross_validate, tune
from tests.support.training_runs import ROOT, SMOKE
from trainer.arguments import ARGUMENT_CLASSES, Arguments, RunArguments
from trainer.experiments import runs as run
from trainer.experiments.runs import read_comparison, start_experiment
from trainer.recipe import RecipeError, parse_recipe
from trainer.train import main


@pytest.mark.slow
def test_cross_validation_repeats_no_finished_fold(quick, tmp_path, capsys, monkeypatch):
    trained = []
    monkeypatch.setattr(run, "train", lambda argv: (trained.append(argv), main(argv)))
    command = [SMOKE, *quick, "--folds", "3", "--num_train_epochs", "1"]
    cross_validate.main(command)
    assert len(trained) == 3
    table = capsys.readouterr().out
    assert re.search(r"\| mean ± standard deviation \| 3 \| 40 \| [\d.]+ ± [\d.]+ \|", table)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert sum(run["faces"] for run in results["runs"]) == 120  # every picture is tested once
    assert (tmp_path / "run/results.png").stat().st_size > 5000

    (tmp_path / "run/fold_1_of_3/training_run.json").unlink()  # as a kill in the middle of fold 1 leaves it
    (tmp_path / "run/fold_1_of_3/model.safetensors").unlink()
    cross_validate.main(command)
    assert len(trained) == 4
    assert json.loads((tmp_path / "run/results.json").read_text()) == results

    cross_validate.main([*command, "--disable_tqdm", "false"])  # which no result depends on
    with pytest.raises(RecipeError, match=r"started with other arguments \(3 folds: learning_rate 0.003, not 0.01\)"):
        cross_validate.main([*command, "--learning_rate", "1e-2"])
    assert len(trained) == 4


@pytest.mark.slow
def test_comparison_of_recipes(few_faces, tmp_path, capsys, monkeypatch):
    comparison = tmp_path / "losses.yaml"
    runs = "{Wide loss!: {age_sigma_years: 6}}"
    comparison.write_text(f"recipe: {SMOKE}\nseeds: [1]\nruns: {runs}\n")
    shared = ["--dataset", str(few_faces), f"--output_dir={tmp_path / 'out'}", "--disable_tqdm", "true"]
    shared += ["--num_train_epochs", "1"]
    compare_recipes.main([str(comparison), *shared])
    printed = capsys.readouterr().out
    assert re.search(r"\| Wide loss! \| 1 \| 13 \| [\d.]+ \[[\d.]+, [\d.]+\] \|", printed)
    record = json.loads((tmp_path / "out/wide_loss_seed_1/training_run.json").read_text())
    assert record["arguments"]["age_sigma_years"] == 6
    assert record["arguments"]["seed"] == 1
    assert (
        json.loads((tmp_path / "out/wide_loss_seed_1/on_validation/metrics.json").read_text())["split"] == "validation"
    )

    monkeypatch.setattr(run, "train", lambda argv: pytest.fail("a finished run was repeated"))
    compare_recipes.main([str(comparison), *shared])
    with pytest.raises(RecipeError, match=r"started with other arguments \(wide_loss: num_train_epochs 1.0, not 2.0"):
        compare_recipes.main([str(comparison), *shared, "--num_train_epochs", "2"])
    comparison.write_text(comparison.read_text().replace("6", "7"))
    with pytest.raises(RecipeError, match=r"started with other arguments \(wide_loss: age_sigma_years 6.0, not 7.0"):
        compare_recipes.main([str(comparison), *shared])


def test_an_experiment_of_an_earlier_version_can_be_resumed(quick, tmp_path):
    """Which knew fewer arguments: the others had their defaults."""
    path = tmp_path / "experiment.json"
    start_experiment(tmp_path, {"search": Arguments.parse([SMOKE, *quick])})
    begun = json.loads(path.read_text())
    del begun["search"]["l1_penalty"]
    path.write_text(json.dumps(begun))
    with pytest.raises(RecipeError, match=r"\(search: l1_penalty 0.0, not 0.5\)"):
        start_experiment(tmp_path, {"search": Arguments.parse([SMOKE, *quick, "--l1_penalty", "0.5"])})
    start_experiment(tmp_path, {"search": Arguments.parse([SMOKE, *quick])})


@pytest.mark.parametrize(
    "start",
    [cross_validate.main, compare_recipes.main, tune.main],
    ids=["cross_validate", "compare_recipes", "tune"],
)
def test_experiments_are_for_one_process(quick, monkeypatch, tmp_path, start):
    monkeypatch.setattr("trainer.arguments.check_processes", lambda processes: None)
    monkeypatch.setattr(RunArguments, "world_size", 2)
    recipe = SMOKE
    if start is compare_recipes.main:
        recipe = str(tmp_path / "comparison.yaml")
        Path(recipe).write_text(f"recipe: {SMOKE}\nruns: {{a: {{}}}}\n")
    with pytest.raises(RecipeError, match="start it without accelerate launch"):
        start([recipe, *quick])


def test_a_comparison_does_not_take_its_seed_from_the_command(tmp_path):
    (tmp_path / "file.yaml").write_text(f"recipe: {SMOKE}\nruns: {{one: {{}}}}\n")
    with pytest.raises(RecipeError, match=r"write `seeds: \[0, 1\]` into"):
        compare_recipes.main([str(tmp_path / "file.yaml"), "--seed=3"])


@pytest.mark.parametrize("path", sorted((ROOT / "trainer/comparisons").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_comparison_is_valid(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    arms, seeds = read_comparison(path)
    assert len(arms) > 1
    assert seeds
    for arm in arms:
        parse_recipe([str(arm.write(tmp_path))], ARGUMENT_CLASSES)
    assert f"python -m scripts.compare_recipes trainer/comparisons/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: {a: {}}", "'a' has no recipe"),
        ("recipe: x\nrun: {a: {}}", "must hold `recipe`, `runs`"),
        ("recipe: nowhere.yaml\nruns: {a: {}}", "No recipe at nowhere.yaml"),
        (f"recipe: {SMOKE}\nruns: {{a: {{}}, A!: {{}}}}", "the same name in file names"),
    ],
)
def test_comparisons_that_say_too_little(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_comparison(tmp_path / "c.yaml")
