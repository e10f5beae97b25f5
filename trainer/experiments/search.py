"""Hyperparameter search with Optuna: a YAML file says which arguments of a recipe are searched and where, and each trial
trains with suggested values and is judged on the validation split.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy

from model.modeling_age_gender import AgeGenderModel
from trainer.arguments import Arguments
from trainer.build_model import build_model_for
from trainer.data.transforms import AugmentationArguments
from trainer.experiments.runs import start_experiment
from trainer.inherited_arguments import REFUSED
from trainer.model_arguments import ModelArguments
from trainer.optimizer import LearningArguments
from trainer.recipe import RecipeError, did_you_mean, read_mapping
from trainer.train import build_trainer, check_before_training, prepare_faces
from trainer.trainer import AgeGenderTrainer


STUDY = "search"  # its name in the storage
EXAMPLE = "the one that `python -m scripts.tune --help` shows"
DEFAULT_SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
    "weight_decay": {"low": 1e-3, "high": 0.3, "log": True},
    "head_dropout": {"low": 0.0, "high": 0.4},
    "age_sigma_years": {"low": 1.0, "high": 4.0},
    "gender_label_smoothing": [0.0, 0.05, 0.1],
}

# The same in all trials: the faces are decoded once for all of them, and the recipe says how a trial is judged.
SHARED = (
    *("image_size", "train_image_size", "age_ranges", "train_resolutions"),
    *("output_dir", "metric_for_best_model", "seed"),
)
# These define the losses. Judged by a loss, the trial with the easiest one would win.
LOSS_ARGUMENTS = (
    *("age_sigma_years", "age_class_weights", "range_loss_weight"),
    *("gender_loss_weight", "gender_label_smoothing"),
)


def _names(argument_class: type) -> list[str]:
    return [one.name for one in fields(argument_class) if one.init and one.name not in (*SHARED, *REFUSED)]


SEARCHABLE = {
    ModelArguments: _names(ModelArguments),
    AugmentationArguments: _names(AugmentationArguments),
    LearningArguments: ["l1_penalty"],
    TrainingArguments: _names(TrainingArguments),
}


@dataclass(frozen=True)
class SearchSpace:
    """`{learning_rate: {low: 1e-4, high: 3e-3, log: true}, per_device_train_batch_size: [32, 64]}`.

    A range between integers suggests integers, any other range floats; a list suggests its members.
    """

    choices: Mapping[str, list[Any] | dict[str, Any]]

    @classmethod
    def read(cls, path: Path | None, known: Sequence[str]) -> "SearchSpace":
        """
        Args:
            path: YAML file; None for `DEFAULT_SPACE`.
            known: names of the arguments that can be searched.

        Raises:
            RecipeError: no such file, a name that cannot be searched, or neither a list nor a range with low below high.
        """
        where = path or "the default space"
        space = read_mapping(path, "search space", EXAMPLE) if path else DEFAULT_SPACE
        choices = {}
        for name, choice in space.items():
            if name not in known:
                raise RecipeError(f"{where}: {name!r} cannot be searched.{did_you_mean(str(name), known)}")
            choices[name] = _check(choice, f"{where}: {name}")
        if not choices:
            raise RecipeError(f"{where} names nothing to search.")
        return cls(choices)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values of a trial; asking the same trial again gives the same ones."""
        values: dict[str, Any] = {}
        for name, choice in self.choices.items():
            if isinstance(choice, list):
                values[name] = trial.suggest_categorical(name, choice)
            elif isinstance(choice["low"], int) and isinstance(choice["high"], int):
                values[name] = trial.suggest_int(name, choice["low"], choice["high"], log=choice["log"])
            else:
                values[name] = trial.suggest_float(name, choice["low"], choice["high"], log=choice["log"])
        return values


def _check(choice: Any, where: str) -> list[Any] | dict[str, Any]:
    if isinstance(choice, list) and choice:
        return [_number_if_one(value) for value in choice]
    if isinstance(choice, dict) and {"low", "high"} <= set(choice) <= {"low", "high", "log"}:
        low, high = _number(choice["low"], where), _number(choice["high"], where)
        if low < high and (low > 0 or not choice.get("log")):
            return {"low": low, "high": high, "log": bool(choice.get("log"))}
    raise RecipeError(
        f"{where}: expected a list, or {{low, high}} with low below high (and log: true above 0); got {choice}."
    )


def _number_if_one(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value  # YAML reads 1e-4 as text
    except ValueError:
        return value


def _number(value: Any, where: str) -> int | float:
    if isinstance(value, int):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RecipeError(f"{where}: expected a number, got {value!r}.") from None


def metric_of(recipe: Arguments) -> str:
    """By which score of an evaluation, such as "age_mae", the recipe judges a trial.

    Raises:
        RecipeError: it does not say, or evaluates nothing.
    """
    if not recipe.training.metric_for_best_model or recipe.training.eval_strategy == "no":
        raise RecipeError("A search needs metric_for_best_model (such as age_mae) and an eval_strategy in the recipe.")
    return recipe.training.metric_for_best_model.removeprefix("eval_")


# (space, storage of the study, number of the first trial, how many) -> None: runs them, in whatever processes, and returns
# when all have ended.
RunTrials = Callable[[SearchSpace, BaseStorage, int, int], None]


def search(
    recipe: Arguments, space_path: Path | None, trials: int, run_trials: RunTrials | None = None
) -> optuna.Study:
    """Train until `trials` trials are finished or pruned, those of earlier calls with the same `output_dir` included.

    A trial is pruned if it is worse than the median of the earlier ones at the same step, or diverges. The study lies in
    `output_dir`/study.db. A trial leaves no model.

    Args:
        space_path: YAML file of a `SearchSpace`; None for `DEFAULT_SPACE`.
        run_trials: runs them elsewhere, see `RunTrials`; by default sequentially in this process.

    Raises:
        RecipeError: the space cannot be searched, the recipe does not say how to judge a trial, or the study was started
            with other arguments.
    """
    metric = metric_of(recipe)
    space = SearchSpace.read(space_path, [name for names in SEARCHABLE.values() for name in names])
    of_loss = [name for name in space.choices if name in LOSS_ARGUMENTS]
    if of_loss and metric in ("loss", "age_loss", "gender_loss"):
        raise RecipeError(
            f"A search over {', '.join(of_loss)} cannot be judged by {metric}, which they change. Judge by age_mae or "
            "gender_accuracy (--metric_for_best_model), or leave them out of the space."
        )
    folder = Path(recipe.training.output_dir)
    start_experiment(folder, {"search": recipe}, space=space.choices)

    storage = RDBStorage(f"sqlite:///{folder / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name=STUDY, direction=_direction(recipe), load_if_exists=True)
    _give_up_unfinished(study)  # of a search that was killed
    left = trials - len(study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED]))
    if left > 0 and run_trials:
        run_trials(space, storage, len(study.trials), left)
        _give_up_unfinished(study)  # of processes that were lost
    elif left > 0:
        Trials(recipe, space, storage).run(left, first=len(study.trials))
    return study


class Trials:
    """Runs trials of a study sequentially, on faces that are decoded once."""

    def __init__(self, recipe: Arguments, space: SearchSpace, storage: BaseStorage):
        """
        Args:
            storage: holds the study, which other processes may work on too.
        """
        self._recipe, self._space, self._storage = recipe, space, storage
        self._trainer = _trainer_of_trials(recipe, space)

    def run(self, count: int, first: int) -> None:
        """
        Args:
            first: number of the first of these trials, which no other call has: with the same one it would be suggested the
                same values.
        """
        study = optuna.load_study(storage=self._storage, study_name=STUDY)
        failed = len(study.get_trials(states=[TrialState.FAIL]))
        metric = metric_of(self._recipe)
        try:
            self._trainer.hyperparameter_search(
                hp_space=lambda trial: _of(TrainingArguments, self._space.suggest(trial)),
                compute_objective=lambda metrics: metrics[f"eval_{metric}"],
                n_trials=count,
                direction=_direction(self._recipe),
                backend="optuna",
                sampler=optuna.samplers.TPESampler(seed=self._recipe.training.seed + first),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
                storage=self._storage,
                study_name=STUDY,
                load_if_exists=True,
            )
        except ValueError:  # also raised by Optuna if every trial was pruned: there is no best one
            states = [trial.state for trial in study.trials]
            if TrialState.COMPLETE in states or states.count(TrialState.FAIL) > failed:
                raise


def _give_up_unfinished(study: optuna.Study) -> None:
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)


def _direction(recipe: Arguments) -> Literal["maximize", "minimize"]:
    return "maximize" if recipe.training.greater_is_better else "minimize"


def _trainer_of_trials(recipe: Arguments, space: SearchSpace) -> AgeGenderTrainer:
    """A trainer that builds the model of each trial, and takes over the trial's values that are no TrainingArguments."""
    training = copy(recipe.training)
    training.output_dir = str(Path(training.output_dir) / "trials")
    training.save_strategy, training.load_best_model_at_end = SaveStrategy.NO, False
    for field in fields(TrainingArguments):  # the Trainer converts a trial's value to the type of the recipe's
        value = getattr(training, field.name, None)
        if field.name in space.choices and field.type is float and isinstance(value, int):
            setattr(training, field.name, float(value))
    if recipe.learning.early_stopping_patience is not None:
        print("early_stopping_patience is left out: a trial that is worse than the others is pruned instead.")
    learning = replace(recipe.learning, early_stopping_patience=None)
    args = recipe._replace(training=training, learning=learning)
    if args.distillation.paths:
        raise RecipeError("A search trains without teachers and embeddings. Leave them out.")
    learns_from, _ = check_before_training(args, Path(training.output_dir))
    faces = prepare_faces(args, learns_from)
    trainer = build_trainer(args, faces, *build_model_for(args.model, faces.train_rows))

    def build_model_of(trial: optuna.Trial | None) -> AgeGenderModel:
        values = space.suggest(trial) if trial else {}
        trainer.batch_transform.augmentation = replace(args.augmentation, **_of(AugmentationArguments, values))
        trainer.l1_penalty = replace(args.learning, **_of(LearningArguments, values)).l1_penalty
        return build_model_for(replace(args.model, **_of(ModelArguments, values)), faces.train_rows)[0]

    trainer.model_init = build_model_of
    return trainer


def _of(argument_class: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in SEARCHABLE[argument_class]}
