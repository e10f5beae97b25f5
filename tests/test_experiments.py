"""Experiments by a recipe: search, cross-validation, comparison, early stopping and L1; each goes on after a kill."""

import json
import re
import shutil
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState

from model.modeling_age_gender import AgeGenderModel
from scripts import compare_recipes, cross_validate
from scripts.tune import read_arguments, tune
from tests.made_up_faces import write_utkface_folder
from trainer.arguments import ARGUMENT_CLASSES, Arguments
from trainer.experiments import run
from trainer.experiments.comparison import read_comparison
from trainer.experiments.folder import begin_experiment
from trainer.experiments.search_space import SearchSpace
from trainer.learning import l1_norm
from trainer.recipe import RecipeError, parse_recipe
from trainer.run_arguments import RunArguments
from trainer.train import main


ROOT = Path(__file__).parents[1]
SMOKE = str(ROOT / "trainer/recipes/smoke.yaml")


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_utkface_folder(tmp_path_factory.mktemp("data") / "faces", count=120, size=40)


@pytest.fixture
def quick(faces, tmp_path) -> list[str]:
    return ["--dataset", str(faces), "--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true"]


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
def test_early_stopping_goes_on_counting_after_a_kill(quick, tmp_path):
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
def test_search_goes_on_where_it_was(quick, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    command = [SMOKE, *quick, "--space", str(space)]
    tune(*read_arguments([*command, "--trials", "2"]))
    storage = f"sqlite:///{tmp_path / 'run/study.db'}"
    first = optuna.load_study(storage=storage, study_name="search")
    first.ask()  # a trial that a kill leaves behind
    study = tune(*read_arguments([*command, "--trials", "3"]))
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

    with pytest.raises(RecipeError, match=r"begun with other arguments \(search: learning_rate 0.003, not 0.001\)"):
        tune(*read_arguments([*command, "--learning_rate", "1e-3"]))
    space.write_text(SPACE.replace("0.5", "0.6"))
    with pytest.raises(RecipeError, match=r"begun with other arguments \(search: space"):
        tune(*read_arguments(command))


@pytest.mark.slow
def test_bad_trials_are_pruned(quick, tmp_path):
    """Of two learning rates one learns nothing: it is given up once the median says so."""
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: [1e-9, 1e-2]\n")
    study = tune(*read_arguments([SMOKE, *quick, "--space", str(space), "--trials", "6"]))
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) == 1 for trial in pruned)
    assert len(study.trials) == 6


@pytest.mark.slow
def test_trials_that_diverge_count_and_end_nothing(quick, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: [1e30, 1e31]\n")
    command = [SMOKE, *quick, "--space", str(space), "--early_stopping_patience", "1"]
    study = tune(*read_arguments([*command, "--trials", "2"]))
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    printed = capsys.readouterr().out
    assert "early_stopping_patience is left out" in printed
    assert printed.count("| pruned |") == 2
    assert len(tune(*read_arguments([*command, "--trials", "2"])).trials) == 2


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
    with pytest.raises(RecipeError, match=r"begun with other arguments \(3 folds: learning_rate 0.003, not 0.01\)"):
        cross_validate.main([*command, "--learning_rate", "1e-2"])
    assert len(trained) == 4


@pytest.mark.slow
def test_comparison_of_recipes(faces, tmp_path, capsys, monkeypatch):
    comparison = tmp_path / "losses.yaml"
    runs = "{Wide loss!: {age_sigma_years: 6}}"
    comparison.write_text(f"recipe: {SMOKE}\nseeds: [1]\nruns: {runs}\n")
    shared = ["--dataset", str(faces), f"--output_dir={tmp_path / 'out'}", "--disable_tqdm", "true"]
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
    with pytest.raises(RecipeError, match=r"begun with other arguments \(wide_loss: num_train_epochs 1.0, not 2.0"):
        compare_recipes.main([str(comparison), *shared, "--num_train_epochs", "2"])
    comparison.write_text(comparison.read_text().replace("6", "7"))
    with pytest.raises(RecipeError, match=r"begun with other arguments \(wide_loss: age_sigma_years 6.0, not 7.0"):
        compare_recipes.main([str(comparison), *shared])


def test_an_experiment_begun_by_an_earlier_version_goes_on(quick, tmp_path):
    """Which knew fewer arguments: the others had their defaults."""
    path = tmp_path / "experiment.json"
    begin_experiment(tmp_path, {"search": Arguments.parse([SMOKE, *quick])})
    begun = json.loads(path.read_text())
    del begun["search"]["race_loss_weight"]
    path.write_text(json.dumps(begun))
    with pytest.raises(RecipeError, match=r"\(search: race_loss_weight 0.0, not 0.5\)"):
        begin_experiment(tmp_path, {"search": Arguments.parse([SMOKE, *quick, "--race_loss_weight", "0.5"])})
    begin_experiment(tmp_path, {"search": Arguments.parse([SMOKE, *quick])})


@pytest.mark.parametrize("metric", ["loss", "eval_age_loss"])
def test_trials_are_not_judged_by_a_loss_that_is_searched(quick, metric):
    with pytest.raises(RecipeError, match=r"search .* age_sigma_years, gender_label_smoothing.* Judge by age_mae"):
        tune(*read_arguments([SMOKE, *quick, "--metric_for_best_model", metric]))


@pytest.mark.slow
def test_a_share_of_the_steps_is_searched_where_the_recipe_says_none(quick, tmp_path, capsys):
    recipe, space = tmp_path / "recipe.yaml", tmp_path / "space.yaml"
    recipe.write_text(Path(SMOKE).read_text().replace("warmup_steps: 0.1\n", ""))
    space.write_text("warmup_steps: [0.5]\n")
    command = [str(recipe), *quick, "--space", str(space), "--logging_steps", "1", "--num_train_epochs", "1"]
    tune(*read_arguments([*command, "--trials", "1"]))
    rates = re.findall(r"'learning_rate': '?([\d.e-]+)", capsys.readouterr().out)
    assert float(rates[0]) == 0, "the first step of a warmup"


@pytest.mark.parametrize(
    "start",
    [cross_validate.main, compare_recipes.main, lambda argv: tune(*read_arguments(argv))],
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
        (f"recipe: {SMOKE}\nruns: {{a: {{}}, A!: {{}}}}", "too much alike"),
    ],
)
def test_comparisons_that_say_too_little(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_comparison(tmp_path / "c.yaml")
