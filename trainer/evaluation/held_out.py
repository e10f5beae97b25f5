"""Load faces to evaluate a model on, and refuse those that it may have been trained on."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets

from model.errors import AgeGenderError
from model_card.run_record import RUN_RECORD, may_be_same, read_run_record, trained_on_other_splits
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces, load_whole_set
from trainer.recipe import as_flags
from trainer.run_record import describe_splits, public_name


class EvaluationError(AgeGenderError):
    """The evaluation cannot be done as asked; the message says what to do."""


@dataclass(frozen=True)
class HeldOut:
    """Faces to evaluate a model on.

    Attributes:
        faces: the rows of the split that was asked for, one of `splits`.
        seed: of the splits.
        run: the record of the model's training; None where there is none.
        of_a_trained_set: whether the model was trained on other pictures of an external test set.
    """

    faces: Dataset
    splits: DatasetDict
    seed: int
    run: dict[str, Any] | None
    of_a_trained_set: bool = False


def load_held_out(folder: Path, data_args: DataArguments, split: str, seed: int | None = None) -> HeldOut:
    """A split of the set that the model in `folder` was trained on.

    Args:
        split: "train", "validation", "test", or "all" for the three together.
        seed: of the splits; the one of the model's training run unless given.

    Raises:
        EvaluationError: no such split, or one that overlaps the training pictures.
    """
    run, seed = _run_and_seed(folder, seed)
    splits = load_faces(data_args, seed=seed)
    if run:
        check_held_out(splits, data_args, run)
    return HeldOut(_choose_split(splits, split), splits, seed, run)


def load_external(folder: Path, data_args: DataArguments, split: str, seed: int | None = None) -> HeldOut:
    """As `load_held_out`, of an external test set.

    That is every picture of a set that the model was not trained on (`split="all"`), or the held-out part of a further set
    that it was trained on.
    """
    run, seed = _run_and_seed(folder, seed)
    splits = load_whole_set(data_args) if split == "all" else load_faces(data_args, seed=seed)
    of_a_trained_set = run is not None and check_external(splits, data_args, split, run)
    return HeldOut(_choose_split(splits, split), splits, seed, run, of_a_trained_set)


def check_held_out(splits: DatasetDict, data_args: DataArguments, run: dict[str, Any]) -> None:
    """Raise `EvaluationError` unless these are the very splits of the training run."""
    if describe_splits(splits)["splits_sha256"] == run["data"]["splits_sha256"]:
        return
    used = {name: run["arguments"][name] for name in vars(data_args) if name in run["arguments"]}
    differing = {name: value for name, value in used.items() if getattr(data_args, name) != value}
    hints = [shlex.join(as_flags(differing)), *(f"no --{name}" for name, value in differing.items() if value is None)]
    hint = ", ".join(filter(None, hints)) or "those of its manifest (--manifest)"
    raise EvaluationError(
        "This model was trained on other splits: these pictures may be among its training pictures. Name a set that it was "
        f"not trained on with --external, or give the splits of its run: {hint}."
    )


def check_external(splits: DatasetDict, data_args: DataArguments, split: str, run: dict[str, Any]) -> bool:
    """Whether the model was trained on other pictures of this external test set.

    Raises:
        EvaluationError: it may have been trained on these pictures or some of them.
    """
    dataset = public_name(data_args.dataset)

    def rename(known: str) -> str:
        return f"If these are other pictures than those of {known}, rename {dataset}."

    before = next((known for known in trained_on_other_splits(run) if may_be_same(known, dataset)), None)
    if before:
        raise EvaluationError(
            f"The model that this one was fine-tuned from, or a teacher, had been trained on {before}, in other splits. "
            + rename(before)
        )
    described = zip(run["data"].get("also_trained_on") or (), run["arguments"].get("also_train_on") or (), strict=True)
    others = [(other, arguments) for other, arguments in described if may_be_same(other["dataset"], dataset)]
    if others:
        digest = describe_splits(splits)["splits_sha256"]
        if split not in ("train", "all") and digest in [other["splits_sha256"] for other, _ in others]:
            return True
        other, arguments = others[0]
        used = {name: value for name, value in arguments.items() if name not in ("dataset", "repeat", "align")}
        raise EvaluationError(
            f"This model was trained on {other['dataset']} too. Evaluate on what was held out of it: "
            f"{shlex.join(as_flags({'split': 'test'} | used))}. {rename(other['dataset'])}"
        )
    own = public_name(run["arguments"]["dataset"])
    if may_be_same(own, dataset):
        raise EvaluationError(
            f"This model was trained on {own}: evaluate on its --split test, without --external. {rename(own)}"
        )
    return False


def _run_and_seed(folder: Path, seed: int | None) -> tuple[dict[str, Any] | None, int]:
    run = read_run_record(folder)
    if run and "splits_sha256" not in run.get("data", {}):
        raise EvaluationError(
            f"{folder / RUN_RECORD} does not say which pictures the model was trained on. Remove the file to evaluate "
            "without this check."
        )
    return run, run["data"]["seed"] if run and seed is None else seed or 0


def _choose_split(splits: DatasetDict, name: str) -> Dataset:
    if name == "all":
        return concatenate_datasets(list(splits.values()))
    if name not in splits:
        raise EvaluationError(f"There is no split {name!r} here: choose one of {', '.join(splits)}, or all.")
    return splits[name]
