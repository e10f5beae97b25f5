"""The runs of an experiment: each is trained and measured once, however often the experiment is started, and all starts
have the same arguments. An experiment is a cross-validation, or a comparison: a YAML file with a recipe, what each run changes in
it, and the seeds that each is run with.
"""

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from model.configuration_age_gender import RANGE_SETS
from model_card.metrics_text import Score
from model_card.output_files import write_atomically
from model_card.run_record import RENAMED_ARGUMENTS, RUN_RECORD
from trainer.arguments import ARGUMENT_CLASSES, Arguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.recipe import RecipeError, read_mapping
from trainer.train import main as train


class Column(NamedTuple):
    """A score in the tables of experiments: where it lies in metrics.json, and how it is shown."""

    path: tuple[str, ...]
    factor: int
    decimals: int


SCORES = {
    "age MAE, years": Column(("age", "mae"), 1, 2),
    "age within five years, %": Column(("age", "cs5"), 100, 1),
    **{f"{name} accuracy, %": Column(("age_ranges", name, "accuracy"), 100, 1) for name in RANGE_SETS},
    "FairFace-9 1-off accuracy, %": Column(("age_ranges", "FairFace-9", "within_one"), 100, 1),
    "gender accuracy, %": Column(("gender", "accuracy"), 100, 1),
}


# Where data is cached, how fast a run goes, what it prints, and what follows training: no result depends on them.
WITHOUT_EFFECT = (
    *("cache_dir", "num_proc", "dataloader_num_workers", "ddp_timeout"),
    *("disable_tqdm", "report_to", "report", "onnx"),
)


def start_experiment(folder: Path, args: Mapping[str, Arguments], **more: Any) -> None:
    """Save the arguments of an experiment's runs as `folder`/experiment.json, or compare them with those saved there.

    A later start may add runs.

    Args:
        args: {folder of a run: its arguments}.
        more: what else decides the results, such as a space to search.

    Raises:
        RecipeError: there are several processes, a run was started with other arguments, or runs lack experiment.json.
    """
    if any(one.training.world_size > 1 for one in args.values()):
        raise RecipeError("An experiment trains in one process: start it without accelerate launch.")
    asked = json.loads(json.dumps({name: _effective(one) | more for name, one in args.items()}, default=str))
    path = folder / "experiment.json"
    if not path.exists() and any(folder.glob(f"*/{RUN_RECORD}")):
        raise RecipeError(
            f"{folder} holds runs, but not {path.name}, which says what they were started with. Choose another "
            "--output_dir, or remove that folder."
        )
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in asked.keys() & saved.keys():
        changed = _changed(saved[name], asked[name])
        if changed:
            was = ", ".join(f"{key} {before!r}, not {now!r}" for key, (before, now) in changed.items())
            raise RecipeError(
                f"{folder} was started with other arguments ({name}: {was}), whose results would be mixed with these. "
                "Resume it with the same arguments, choose another --output_dir, or remove that folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(saved | asked, indent=1) + "\n")


def _effective(args: Arguments) -> dict[str, Any]:
    described = args.describe() | {"dataset": args.data.dataset, "manifest": args.data.manifest}
    return {name: value for name, value in described.items() if name not in WITHOUT_EFFECT}


def _changed(saved: dict[str, Any], asked: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{argument: (saved value, value asked for)} where they differ.

    An earlier version may have saved the arguments: those that were added since had their defaults, and those that were
    removed since count if they were in use.
    """
    defaults = {
        one.name: one.default
        for arguments in ARGUMENT_CLASSES
        for one in fields(arguments)
        if one.default is not MISSING
    }
    now = defaults | asked
    before = defaults | {RENAMED_ARGUMENTS.get(name, name): value for name, value in saved.items()}
    return {
        name: (before.get(name), now.get(name))
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name) and (name in now or before[name])
    }


@dataclass(frozen=True)
class Run:
    """A finished run."""

    name: str  # of its arm or fold; runs with several seeds share it
    metrics: dict[str, Any]  # metrics.json
    record: dict[str, Any]  # training_run.json

    def scores(self) -> dict[str, Score]:
        """{title: score in the title's unit}, of what the data has labels for."""
        return self._scores(lambda of_head, measure: of_head[measure])

    def baseline_scores(self) -> dict[str, Score]:
        """The same of the median age and the majority class, where those have a score."""
        return self._scores(lambda of_head, measure: of_head["baseline"].get(measure))

    def _scores(self, pick: Callable[[dict[str, Any], str], Score | None]) -> dict[str, Score]:
        found: dict[str, Score] = {}
        for title, ((*head, measure), factor, _) in SCORES.items():
            of_head: dict[str, Any] = reduce(lambda metrics, name: metrics.get(name, {}), head, self.metrics)
            score = pick(of_head, measure) if of_head else None
            if score:
                found[title] = _scaled(score, factor)
        return found


def _scaled(score: Score, factor: int) -> Score:
    value, low, high = (
        None if part is None else factor * part for part in (score["value"], score["low"], score["high"])
    )
    return {**score, "value": value, "low": low, "high": high}


def run_once(name: str, argv: Sequence[str], output_dir: Path, split: str) -> Run:
    """`train_once`, then measure on `split`, unless an earlier call did."""
    arguments = train_once(argv, output_dir)
    measured = output_dir / f"on_{split}"
    if not (measured / "metrics.json").exists():
        measured.mkdir(exist_ok=True)
        with (measured / "metrics.txt").open("w") as file, contextlib.redirect_stdout(file):
            evaluation = EvaluationArguments(model=str(output_dir), output_dir=str(measured), split=split)
            evaluate_model(evaluation, replace(Arguments.parse(arguments).data, streaming=False))
    metrics, record = (json.loads(path.read_text()) for path in (measured / "metrics.json", output_dir / RUN_RECORD))
    return Run(name, metrics, record)


def train_once(argv: Sequence[str], output_dir: Path) -> list[str]:
    """Train into `output_dir`, resume there, or do nothing if the run is finished.

    Args:
        argv: of trainer.train, without the output.

    Returns:
        All arguments of the run.
    """
    arguments = [*argv, "--output_dir", str(output_dir), "--report", "false"]
    if not (output_dir / RUN_RECORD).exists():
        train([*arguments, "--resume_from_checkpoint", "true"])
    return arguments


DEFAULT_FOLDS = 5


def cross_validate(argv: Sequence[str]) -> list[Run]:
    """Train and test a recipe on each fold, so that every face is tested once. A second call repeats no finished fold.

    Args:
        argv: of trainer.train; `--output_dir` gets a folder for each fold.

    Raises:
        RecipeError: an argument cannot be used, or the output holds folds with other arguments.
    """
    given = Arguments.parse(argv)
    folds, folder = given.data.folds or DEFAULT_FOLDS, Path(given.training.output_dir)
    of_folds = [[*argv, "--folds", str(folds), "--fold", str(fold)] for fold in range(folds)]
    start_experiment(folder, {f"{folds} folds": Arguments.parse(of_folds[0])})
    runs = []
    for fold, of_fold in enumerate(of_folds):
        print(f"Fold {fold} of {folds}", flush=True)
        runs.append(run_once(f"fold {fold}", of_fold, folder / f"fold_{fold}_of_{folds}", split="test"))
    return runs


@dataclass(frozen=True)
class Arm:
    """One of the things compared, as a recipe of its own."""

    name: str
    recipe: dict[str, Any]

    @property
    def slug(self) -> str:
        """The name in file names."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    def write(self, folder: Path) -> Path:
        """Write the recipe's file into `folder`, which is made if need be."""
        path = folder / f"{self.slug}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {self.name}\n{yaml.safe_dump(self.recipe, sort_keys=False)}")
        return path


def read_comparison(path: Path) -> tuple[list[Arm], list[int]]:
    """The arms and seeds of a file such as

        recipe: trainer/recipes/vit_64px.yaml
        seeds: [0, 1]                            # 0 unless given
        runs:
          as it is: {}
          range loss too: {range_loss_weight: 1} # null takes a line out of the recipe
          another recipe: {recipe: trainer/recipes/other.yaml}

    Raises:
        RecipeError: no such file, other keys, or two names that are the same in file names.
    """
    comparison = read_mapping(path, "comparison", "trainer/comparisons/losses.yaml")
    unknown = set(comparison) - {"recipe", "seeds", "runs"}
    runs, seeds = comparison.get("runs"), comparison.get("seeds", [0])
    if unknown or not isinstance(runs, dict) or not runs or not isinstance(seeds, list):
        raise RecipeError(
            f"{path} must hold `recipe`, `runs` (name: changes) and optionally `seeds` (a list); got "
            f"{', '.join(map(str, comparison))}."
        )
    arms = []
    for name, changes in runs.items():
        changes = dict(changes or {})
        recipe = changes.pop("recipe", comparison.get("recipe"))
        if not recipe:
            raise RecipeError(f"{path}: {name!r} has no recipe: give one for it, or one for all runs.")
        merged = read_mapping(Path(recipe), "recipe", "trainer/recipes/vit_64px.yaml") | changes
        arms.append(Arm(str(name), {key: value for key, value in merged.items() if value is not None}))
    slugs = [arm.slug for arm in arms]
    if len(set(slugs)) < len(slugs):
        raise RecipeError(
            f"{path}: two runs have the same name in file names: {', '.join(slugs)}. Rename one of {', '.join(runs)}."
        )
    return arms, seeds


def compare(comparison: Path, shared: Sequence[str], folder: Path, split: str) -> list[Run]:
    """Train and measure every arm of a comparison with every seed. A second call repeats no finished run.

    Args:
        shared: arguments of trainer.train for every run; they win over the file.
        folder: gets a folder for each run.
        split: "validation" or "test", which is measured.

    Raises:
        RecipeError: the file or an argument cannot be used, or `folder` holds runs with other arguments.
    """
    if any(word.split("=")[0] == "--seed" for word in shared):
        raise RecipeError(f"A comparison names its seeds itself: write `seeds: [0, 1]` into {comparison}.")
    arms, seeds = read_comparison(comparison)
    with TemporaryDirectory() as written:  # so that a mistake in the last arm shows before the first one is trained
        args = {arm.slug: Arguments.parse([str(arm.write(Path(written))), *shared]) for arm in arms}
    start_experiment(folder, args)
    recipes = [arm.write(folder / "recipes") for arm in arms]
    runs = []
    for arm, recipe in zip(arms, recipes, strict=True):
        for seed in seeds:
            print(f"{arm.name}, seed {seed}", flush=True)
            of_run = [str(recipe), *shared, "--seed", str(seed)]
            runs.append(run_once(arm.name, of_run, folder / f"{arm.slug}_seed_{seed}", split))
    return runs
