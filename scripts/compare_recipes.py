"""Train and measure several variants of a recipe: backbones, losses, or whatever a recipe can say.

    python -m scripts.compare_recipes trainer/comparisons/losses.yaml --dataset UTKFace.tar.gz --output_dir outputs/losses
    python -m scripts.compare_recipes trainer/comparisons/backbones.yaml --dataset UTKFace.tar.gz --num_train_epochs 3

Arguments after the file are for every run, and win over the file. All are measured on the validation split: the test
split is for the model that is chosen. Killed, the same command goes on with the run it was at. Writes results.md,
results.json and results.png.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.comparison import read_comparison
from trainer.experiment import run_once
from trainer.experiment_report import write_report
from trainer.recipe import RecipeError, parse_recipe
from trainer.train import ARGUMENT_CLASSES


def main(argv: Sequence[str]) -> None:
    if not argv or argv[0].startswith("-"):
        raise RecipeError("Expected a comparison first, such as trainer/comparisons/losses.yaml.")
    comparison, shared = Path(argv[0]), list(argv[1:])
    arms, seeds = read_comparison(comparison)
    folder = Path(
        shared[shared.index("--output_dir") + 1] if "--output_dir" in shared else f"outputs/{comparison.stem}"
    )
    recipes = [arm.write(folder / "recipes") for arm in arms]
    for recipe in recipes:  # mistakes in the last one are better known before the first one is trained
        parse_recipe([str(recipe), *shared], ARGUMENT_CLASSES)
    runs = []
    for arm, recipe in zip(arms, recipes, strict=True):
        for seed in seeds:
            print(f"{arm.name}, seed {seed}", flush=True)
            of_run = [str(recipe), *shared, "--seed", str(seed)]
            runs.append(run_once(arm.name, of_run, folder / f"{arm.slug}_seed_{seed}", split="validation"))
    print(write_report(runs, folder, f"`{comparison}`, measured on validation"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (RecipeError, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
