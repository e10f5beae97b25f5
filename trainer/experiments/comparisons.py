"""A comparison is a YAML file: a recipe, what each run changes in it, and the seeds that each is run with."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from trainer.arguments import Arguments
from trainer.experiments.runs import Run, run_once, start_experiment
from trainer.recipe import RecipeError, read_mapping


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
