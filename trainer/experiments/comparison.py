"""A comparison is a YAML file: a recipe, what each run changes in it, and the seeds that each is run with."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.recipe import RecipeError, read_mapping


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
