"""Train and measure several variants of a recipe: backbones, losses, or any other argument.

    python -m scripts.compare_recipes trainer/comparisons/losses.yaml --dataset UTKFace.tar.gz --output_dir outputs/losses
    python -m scripts.compare_recipes trainer/comparisons/backbones.yaml --dataset UTKFace.tar.gz --num_train_epochs 3

Arguments of trainer.train after the file hold for every run, and win over the file. All runs are measured on the validation
split: the test split is for the model that is chosen. Where nothing is chosen by the result, give `--split test`. If
interrupted, run the same command again to resume with the run it was at. Writes results.md, results.json and results.png
into OUTPUT_DIR.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.command import errors_explained
from trainer.experiments.reports import write_comparison
from trainer.experiments.runs import compare


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.compare_recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s COMPARISON [--output_dir DIR] [--split SPLIT] [--name value ...]",
        allow_abbrev=False,
    )
    parser.add_argument("comparison", type=Path, help="YAML file, such as trainer/comparisons/losses.yaml")
    parser.add_argument("--output_dir", "--output-dir", type=Path, help="outputs/NAME_OF_THE_FILE unless given")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="what is measured")
    args, shared = parser.parse_known_args(argv)
    folder = args.output_dir or Path("outputs", args.comparison.stem)
    runs = compare(args.comparison, shared, folder, args.split)
    print(write_comparison(runs, folder, f"`{args.comparison}`, measured on {args.split}"))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
