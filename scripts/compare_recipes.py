"""Train and measure several variants of a recipe: backbones, losses, or whatever a recipe can say.

    python -m scripts.compare_recipes trainer/comparisons/losses.yaml --dataset UTKFace.tar.gz --output_dir outputs/losses
    python -m scripts.compare_recipes trainer/comparisons/backbones.yaml --dataset UTKFace.tar.gz --num_train_epochs 3

Arguments after the file are for every run, and win over the file. All are measured on the validation split, for the test
split is for the model that is chosen; where nothing is chosen by the result, `--split test`. If interrupted, run the
same command again to resume with the run it was at. Writes results.md, results.json and results.png.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer.arguments import Arguments
from trainer.experiments.reports import write_comparison
from trainer.experiments.runs import begin_experiment, read_comparison, run_once
from trainer.recipe import RecipeError


def main(argv: Sequence[str]) -> None:
    if not argv or argv[0].startswith("-"):
        raise RecipeError("Expected a comparison first, such as trainer/comparisons/losses.yaml.")
    comparison = Path(argv[0])
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output_dir", "--output-dir", type=Path, default=Path("outputs", comparison.stem))
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    own, shared = parser.parse_known_args(argv[1:])
    folder = own.output_dir
    if any(word.split("=")[0] == "--seed" for word in shared):
        raise RecipeError(f"A comparison names its seeds itself: write `seeds: [0, 1]` into {comparison}.")
    arms, seeds = read_comparison(comparison)
    with TemporaryDirectory() as written:  # mistakes in the last one are better known before the first one is trained
        args = {arm.slug: Arguments.parse([str(arm.write(Path(written))), *shared]) for arm in arms}
    begin_experiment(folder, args)
    recipes = [arm.write(folder / "recipes") for arm in arms]
    runs = []
    for arm, recipe in zip(arms, recipes, strict=True):
        for seed in seeds:
            print(f"{arm.name}, seed {seed}", flush=True)
            of_run = [str(recipe), *shared, "--seed", str(seed)]
            runs.append(run_once(arm.name, of_run, folder / f"{arm.slug}_seed_{seed}", split=own.split))
    print(write_comparison(runs, folder, f"`{comparison}`, measured on {own.split}"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
