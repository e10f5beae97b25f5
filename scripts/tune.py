"""Search for better arguments of a recipe with Optuna, on the validation split.

    python -m scripts.tune trainer/recipes/vit_64px.yaml --trials 30 --dataset UTKFace.tar.gz --output_dir outputs/search
    python -m scripts.tune trainer/recipes/vit_64px.yaml --trials 30 --space space.yaml --num_train_epochs 4

Each trial trains the recipe with suggested values and is judged by `metric_for_best_model` after its last evaluation. A
trial that is worse than the median of the earlier ones at the same step, or that diverges, is pruned. The study lies in
OUTPUT_DIR/study.db: the same command resumes it, up to `--trials` finished or pruned trials. Writes trials.md, trials.json
and trials.png. Needs requirements-dev.txt.

`--ray` runs a trial on each GPU of a cluster at the same time, or on each CPU where it has none; data and output lie at the
same paths on all machines: docs/scale.md.

A space names arguments of the model, the augmentation, the learning or the training. Those that define the losses can be
searched only if the trials are judged by something else:

    learning_rate: {low: 1e-4, high: 3e-3, log: true}
    num_train_epochs: {low: 5, high: 20}
    age_class_weights: [none, sqrt]
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from optuna import Study

from scripts.command import errors_explained
from trainer.arguments import Arguments
from trainer.devices import keep_freed_memory
from trainer.experiments.search import metric_of, search
from trainer.experiments.trial_reports import write_trials


def main(argv: Sequence[str]) -> Study:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s RECIPE [--trials N] [--space YAML] [--ray ADDRESS] [--name value ...]",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=20, help="number of trials, those of earlier calls included")
    parser.add_argument(
        "--space", type=Path, help="YAML file of what is searched; the usual five arguments unless given"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run trials concurrently on a cluster of Ray: its host:port; auto, the one that this machine belongs to; or "
        "local, this machine",
    )
    args, of_recipe = parser.parse_known_args(argv)
    recipe = Arguments.parse(of_recipe)
    if recipe.training.device.type == "cpu":
        keep_freed_memory()
    study = _search_on_cluster(args, recipe, of_recipe) if args.ray else search(recipe, args.space, args.trials)
    print(write_trials(study, of_recipe, Path(recipe.training.output_dir), metric_of(recipe)))
    return study


def _search_on_cluster(args: argparse.Namespace, recipe: Arguments, of_recipe: Sequence[str]) -> Study:
    from cluster.machines import checked_cluster  # imports Ray, which only --ray needs
    from cluster.trials import run_trials

    with checked_cluster(args.ray):
        return search(recipe, args.space, args.trials, partial(run_trials, of_recipe))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
