"""A comparison is a YAML file: a recipe, what each run changes in it, and the seeds that each is run with."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from model.configuration_age_gender import RANGE_SETS
from trainer.arguments import ARGUMENT_CLASSES, Arguments
from trainer.atomic_files import write_whole
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.evaluation.predictions import Score
from trainer.recipe import RecipeError, read_mapping
from trainer.run_record import RUN_RECORD
from trainer.train import main as train


@dataclass(frozen=True)
class Arm:
    """One of the things compared, as a recipe of its own."""

    name: str
    recipe: dict[str, Any]

    @property
    def slug(self) -> str:
        """Of the name, for files."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    def write(self, folder: Path) -> Path:
        """The recipe's file."""
        path = folder / f"{self.slug}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {self.name}\n{yaml.safe_dump(self.recipe, sort_keys=False)}")
        return path


def read_comparison(path: Path) -> tuple[list[Arm], list[int]]:
    """The arms and seeds of

        recipe: trainer/recipes/vit_64px.yaml
        seeds: [0, 1]                            # 0 unless given
        runs:
          as it is: {}
          ranges too: {range_loss_weight: 1}     # null takes a line out of the recipe
          another recipe: {recipe: trainer/recipes/other.yaml}

    Raises:
        RecipeError: it is not that.
    """
    comparison = read_mapping(path, "comparison", "trainer/comparisons/losses.yaml")
    unknown = set(comparison) - {"recipe", "seeds", "runs"}
    runs, seeds = comparison.get("runs"), comparison.get("seeds", [0])
    if unknown or not isinstance(runs, dict) or not runs or not isinstance(seeds, list):
        raise RecipeError(f"{path} must hold `recipe`, `runs` (name: changes) and, if you like, `seeds` (a list).")
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
        raise RecipeError(f"{path}: the names of the runs are too much alike: {', '.join(runs)}.")
    return arms, seeds


# Where data lies in between, how fast and how loudly it goes, and what follows a training: no result depends on it.
_WITHOUT_EFFECT = (
    *("cache_dir", "num_proc", "dataloader_num_workers", "ddp_timeout"),
    *("disable_tqdm", "report_to", "report", "onnx"),
)


_DEFAULTS = {
    one.name: one.default for arguments in ARGUMENT_CLASSES for one in fields(arguments) if one.default is not MISSING
}


def begin_experiment(folder: Path, args: Mapping[str, Arguments], **more: Any) -> None:
    """Save what the runs of an experiment are asked for, or go on with it; runs may be added to those begun.

    Args:
        args: {name: arguments} of its runs, by the names of their folders.
        more: what else decides its results, such as a space to search.

    Raises:
        RecipeError: there are several processes, a run was begun with other arguments, or nobody knows with which.
    """
    if any(one.training.world_size > 1 for one in args.values()):
        raise RecipeError("An experiment trains in one process: start it without accelerate launch.")
    asked = json.loads(json.dumps({name: _of_effect(one) | more for name, one in args.items()}, default=str))
    path = folder / "experiment.json"
    if not path.exists() and any(folder.glob(f"*/{RUN_RECORD}")):
        raise RecipeError(f"{folder} holds runs, but not {path.name}, which says what they were begun with.")
    begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in asked.keys() & begun.keys():
        # an argument that a later version brought was begun without: by its default
        now, before = _DEFAULTS | asked[name], _DEFAULTS | begun[name]
        changed = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
        if changed:
            was = ", ".join(f"{key} {before.get(key)!r}, not {now.get(key)!r}" for key in changed)
            raise RecipeError(
                f"{folder} was begun with other arguments ({name}: {was}), whose results would be mixed with these. "
                "Go on as it was begun, choose another --output_dir, or remove that folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(begun | asked, indent=1) + "\n")


def _of_effect(args: Arguments) -> dict[str, Any]:
    described = args.describe() | {"dataset": args.data.dataset, "manifest": args.data.manifest}
    return {name: value for name, value in described.items() if name not in _WITHOUT_EFFECT}


SCORES = {  # title: (where in metrics.json, factor, decimals)
    "age MAE, years": (("age", "mae"), 1, 2),
    "age within five years, %": (("age", "cs5"), 100, 1),
    **{f"{name}, %": (("age_ranges", name, "accuracy"), 100, 1) for name in RANGE_SETS},
    "FairFace-9 or beside it, %": (("age_ranges", "FairFace-9", "within_one"), 100, 1),
    "gender, %": (("gender", "accuracy"), 100, 1),
}


@dataclass(frozen=True)
class Run:
    """A finished run. `name`: of its arm or fold, which several runs may share."""

    name: str
    metrics: dict[str, Any]
    record: dict[str, Any]

    def scores(self) -> dict[str, Score]:
        """{title: score in the title's unit}, of what the data has labels for."""
        return self._scores(lambda of_head, measure: of_head[measure])

    def baseline_scores(self) -> dict[str, Score]:
        """The same of always giving one answer, where that has a score."""
        return self._scores(lambda of_head, measure: of_head["baseline"].get(measure))

    def _scores(self, pick: Callable[[dict[str, Any], str], Score | None]) -> dict[str, Score]:
        found = {}
        for title, ((*head, measure), factor, _) in SCORES.items():
            of_head = reduce(lambda metrics, name: metrics.get(name, {}), head, self.metrics)
            score = of_head and pick(of_head, measure)
            if score:
                found[title] = score | {end: score[end] and score[end] * factor for end in ("value", "low", "high")}
        return found


def train_once(argv: Sequence[str], output_dir: Path) -> list[str]:
    """Train into `output_dir`, or go on from where an earlier call was stopped; what it was trained with.

    Args:
        argv: as of trainer.train, but for the output.
    """
    arguments = [*argv, "--output_dir", str(output_dir), "--report", "false"]
    if not (output_dir / RUN_RECORD).exists():
        train([*arguments, "--resume_from_checkpoint", "true"])
    return arguments


def run_once(name: str, argv: Sequence[str], output_dir: Path, split: str) -> Run:
    """`train_once`, then measure on `split`, unless an earlier call did."""
    arguments = train_once(argv, output_dir)
    measured = output_dir / f"on_{split}"
    if not (measured / "metrics.json").exists():
        measured.mkdir(exist_ok=True)
        with (measured / "metrics.txt").open("w") as file, contextlib.redirect_stdout(file):
            evaluation = EvaluationArguments(model=str(output_dir), output_dir=str(measured), split=split)
            evaluate_model(evaluation, replace(Arguments.parse(arguments).data, streaming=False))
    return Run(name, *(json.loads(path.read_text()) for path in (measured / "metrics.json", output_dir / RUN_RECORD)))
