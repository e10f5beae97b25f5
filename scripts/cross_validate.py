"""Cross-validation of a recipe: every picture is tested once, by a model that saw none of its near-duplicates.

    python -m scripts.cross_validate trainer/recipes/vit_64px.yaml --folds 5 --dataset UTKFace.tar.gz --output_dir outputs/folds

The folds keep groups of near-duplicates together and are stratified by age and gender (see `folds` in
trainer.data.arguments). If interrupted, run the same command again to resume with the fold it was at. Writes results.md,
results.json and results.png into OUTPUT_DIR.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.command import errors_explained
from trainer.arguments import Arguments
from trainer.experiments.reports import write_comparison
from trainer.experiments.runs import cross_validate


def main(argv: Sequence[str]) -> None:
    runs, folder = cross_validate(argv), Path(Arguments.parse(argv).training.output_dir)
    print(write_comparison(runs, folder, f"`{argv[0]}`: {len(runs)}-fold cross-validation", spread=True))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
