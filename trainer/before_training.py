"""All that can be known about a run's model, teachers and disk before its faces are read: checked in its first seconds."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from datasets import DatasetDict, IterableDatasetDict

from trainer.arguments import Arguments
from trainer.build_model import check_model
from trainer.checkpoints import check_room
from trainer.distillation.distill import Distillation
from trainer.distillation.embeddings import read_embedding_sets
from trainer.distillation.soft_targets import SoftTargets
from trainer.finetuning import check_same_seed, check_same_splits, describe_finetuned
from trainer.recipe import RecipeError


class TrainedModels(NamedTuple):
    """The trained models that a run learns from, each as `trainer.finetuning.describe_trained` describes it."""

    finetuned: dict[str, Any] | None  # whose weights the run starts with
    teachers: list[dict[str, Any]]

    def check_same_splits(self, sets: Iterable[tuple[str, DatasetDict | IterableDatasetDict]]) -> None:
        """
        Args:
            sets: public name and splits of each set to train on.

        Raises:
            RecipeError: one of the models was trained on other splits of one of these sets.
        """
        named = list(sets)
        for trained in filter(None, [self.finetuned, *self.teachers]):
            check_same_splits(trained, named)


def check_before_training(args: Arguments, checkpoint_dir: Path) -> TrainedModels:
    """
    Raises:
        AgeGenderError: the model cannot be built, the disk has no room for it, or as `check_trained_models`.
    """
    weights_bytes = check_model(args.model)
    learning = args.learning
    check_room(checkpoint_dir, weights_bytes, args.training, muon=learning.muon, ema=learning.ema_decay > 0)
    check_targets(args)
    return check_trained_models(args)


def check_trained_models(args: Arguments) -> TrainedModels:
    """
    Raises:
        RecipeError: a model to learn from has no record that can be read, or was trained on one of the sets, split by
            another seed.
    """
    models = TrainedModels(describe_finetuned(args.model), args.distillation.describe_teachers())
    for trained in filter(None, [models.finetuned, *models.teachers]):
        check_same_seed(trained, args.dataset_names, args.data_seed)
    return models


def check_targets(args: Arguments) -> None:
    """
    Raises:
        RecipeError: a teacher or a file cannot be loaded, or answers other questions than the student learns; or files
            beside a stream, whose faces they cannot be matched with beforehand.
    """
    config, distillation = args.model.base_config(), args.distillation
    Distillation.load(distillation, config, args.training)
    for path in distillation.files:
        SoftTargets.load(path).check(path, config.max_age, config.gender_names)
    if distillation.embeddings:
        read_embedding_sets(distillation.embeddings)
    if args.data.streaming and (distillation.files or distillation.embeddings):
        raise RecipeError("Files of soft targets and embeddings need the set whole: leave out streaming.")
