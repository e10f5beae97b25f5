"""Cross-validation of a recipe: every picture is tested once, by a model that saw none of its copies.

    python -m scripts.cross_validate trainer/recipes/vit_64px.yaml --folds 5 --dataset UTKFace.tar.gz --output_dir outputs/folds

The folds are grouped by copies of a picture and stratified by age and gender (see `folds` in trainer.data.arguments).
If interrupted, run the same command again to resume with the fold it was at. Writes results.md, results.json and
results.png.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.arguments import Arguments
from trainer.experiments.reports import write_comparison
from trainer.experiments.runs import begin_experiment, run_once


DEFAULT_FOLDS = 5


def main(argv: Sequence[str]) -> None:
    args = Arguments.parse(argv)
    folds, folder = args.data.folds or DEFAULT_FOLDS, Path(args.training.output_dir)
    args.data.folds, args.data.fold = folds, 0
    begin_experiment(folder, {f"{folds} folds": args})
    runs = []
    for fold in range(folds):
        print(f"Fold {fold} of {folds}", flush=True)
        of_fold = [*argv, "--folds", str(folds), "--fold", str(fold)]
        runs.append(run_once(f"fold {fold}", of_fold, folder / f"fold_{fold}_of_{folds}", split="test"))
    print(write_comparison(runs, folder, f"`{' '.join(argv[:1])}`: {folds}-fold cross-validation", spread=True))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
