"""Search for better arguments of a recipe with Optuna, on the validation split.

    python -m scripts.tune trainer/recipes/vit_64px.yaml --trials 30 --dataset UTKFace.tar.gz --output_dir outputs/search
    python -m scripts.tune trainer/recipes/vit_64px.yaml --trials 30 --space space.yaml --num_train_epochs 4

Each trial trains by the recipe with the suggested values and is judged by `metric_for_best_model` after its last
evaluation; a trial that is worse than the median of the earlier ones at the same step, or that diverges, is pruned. The
study lies in OUTPUT_DIR/study.db: the same command goes on with it, up to `--trials` finished or pruned trials. Writes
trials.md, trials.json and trials.png. Needs `pip install optuna`.

A space names arguments of the model, the augmentation, the learning or the training; those that define the losses only
where the trials are judged by something else:

    learning_rate: {low: 1e-4, high: 3e-3, log: true}
    num_train_epochs: {low: 5, high: 20}
    age_class_weights: [none, sqrt]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from transformers import TrainingArguments

from trainer.arguments import Arguments
from trainer.build_model import ModelArguments
from trainer.checkpoints import TrainingDiverged
from trainer.data.transforms import AugmentationArguments
from trainer.experiments.reports import write_trials
from trainer.experiments.runs import begin_experiment
from trainer.experiments.search import SearchSpace
from trainer.optimizer import LearningArguments
from trainer.recipe import RecipeError
from trainer.train import build_trainer, make_model, prepare_faces


# Pictures are decoded once for all trials, and a trial is judged as the recipe says.
FIXED = (
    "image_size",
    "train_image_size",
    "age_ranges",
    "train_resolutions",
    "output_dir",
    "metric_for_best_model",
    "seed",
)


# By these the losses are defined: the trial with the easiest one would win.
LOSS_ARGUMENTS = (
    "age_sigma_years",
    "age_class_weights",
    "range_loss_weight",
    "gender_loss_weight",
    "gender_label_smoothing",
)


def read_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The search's own arguments, and those of the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s RECIPE [--trials N] [--space YAML] [--name value ...]",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=20, help="how many, those of earlier calls counted in")
    parser.add_argument("--space", type=Path, help="YAML of what is searched; the usual five arguments unless given")
    return parser.parse_known_args(argv)


def pruned_where_it_diverges(train: Callable[..., Any]) -> Callable[..., Any]:
    """A trial whose loss is no number any more is a bad one: it counts, and the sampler learns from it."""

    def train_or_prune(**kwargs: Any) -> Any:
        try:
            return train(**kwargs)
        except TrainingDiverged as error:
            raise optuna.TrialPruned(str(error)) from error

    return train_or_prune


def tune(args: argparse.Namespace, argv: list[str]) -> optuna.Study:
    recipe = Arguments.parse(argv)
    training_args = recipe.training
    metric = training_args.metric_for_best_model
    if not metric or training_args.eval_strategy == "no":
        raise RecipeError("A search needs metric_for_best_model (such as age_mae) and an eval_strategy in the recipe.")
    searchable = {
        ModelArguments: [field.name for field in fields(ModelArguments) if field.name not in FIXED],
        AugmentationArguments: [field.name for field in fields(AugmentationArguments)],
        LearningArguments: ["l1_penalty"],
        TrainingArguments: [
            field.name for field in fields(TrainingArguments) if field.init and field.name not in FIXED
        ],
    }
    space = SearchSpace.read(args.space, [name for names in searchable.values() for name in names])

    of_loss = [name for name in space.choices if name in LOSS_ARGUMENTS]
    if of_loss and metric.removeprefix("eval_") in ("loss", "age_loss", "gender_loss"):
        raise RecipeError(
            f"A search over {', '.join(of_loss)} cannot be judged by {metric}, which they change. Judge by age_mae or "
            "gender_accuracy (--metric_for_best_model), or leave them out of the space."
        )

    folder = Path(training_args.output_dir)
    begin_experiment(folder, {"search": recipe}, space=space.choices)
    training_args.output_dir = str(folder / "trials")
    # A trial is a number, not a model: nothing is saved of it.
    training_args.save_strategy, training_args.load_best_model_at_end = "no", False
    if recipe.learning.early_stopping_patience is not None:
        print("early_stopping_patience is left out: a trial that is worse than the others is pruned instead.")
        recipe = recipe._replace(learning=replace(recipe.learning, early_stopping_patience=None))
    for one in fields(TrainingArguments):  # the Trainer gives a trial's value the type of the recipe's
        value = getattr(training_args, one.name, None)
        if one.name in space.choices and one.type is float and isinstance(value, int):
            setattr(training_args, one.name, float(value))
    faces = prepare_faces(recipe)
    trainer = build_trainer(recipe, faces)

    def of(cls: type, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in searchable[cls]}

    def model_of(trial: optuna.Trial | None) -> Any:
        """Called before each trial; also sets what belongs to the trainer and is no training argument."""
        values = space.suggest(trial) if trial else {}
        trainer.batch_transform.augmentation = replace(recipe.augmentation, **of(AugmentationArguments, values))
        trainer.l1_penalty = replace(recipe.learning, **of(LearningArguments, values)).l1_penalty
        return make_model(replace(recipe.model, **of(ModelArguments, values)), faces.splits["train"])[0]

    trainer.model_init = model_of
    storage, name = f"sqlite:///{folder / 'study.db'}", "search"
    direction = "maximize" if training_args.greater_is_better else "minimize"
    study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    for trial in study.get_trials(states=[TrialState.RUNNING]):  # cut off by a kill: one search at a time
        study.tell(trial.number, state=TrialState.FAIL)
    left = args.trials - len(study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED]))
    trainer.train = pruned_where_it_diverges(trainer.train)
    try:
        if left > 0:
            trainer.hyperparameter_search(
                hp_space=lambda trial: of(TrainingArguments, space.suggest(trial)),
                compute_objective=lambda metrics: metrics[f"eval_{metric.removeprefix('eval_')}"],
                n_trials=left,
                direction=direction,
                backend="optuna",
                storage=storage,
                study_name=name,
                load_if_exists=True,
                # the seed changes from call to call, or a second call would suggest the first one's values again
                sampler=optuna.samplers.TPESampler(seed=training_args.seed + len(study.trials)),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            )
    except ValueError:  # also of Optuna, where no trial was finished: the table says so
        if study.trials[-1].state != TrialState.PRUNED:
            raise
    print(write_trials(study, argv, folder, metric))
    return study


if __name__ == "__main__":
    try:
        tune(*read_arguments(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
