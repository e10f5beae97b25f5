"""Training on several data sets at once: the first is chosen and measured on, the others only add training pictures."""

import difflib
import json
import logging
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from datasets import Dataset, DatasetDict, Image, IterableDatasetDict, concatenate_datasets

from trainer.cleaning import find_groups, fingerprint_pictures
from trainer.data import load_faces
from trainer.data_arguments import DataArguments
from trainer.recipe import RecipeError
from trainer.run_record import describe_splits, public_name


logger = logging.getLogger(__name__)


@dataclass
class MixtureArguments:
    """What a pass over the training pictures consists of, beside the data set itself."""

    also_train_on: list[str] | None = field(
        default=None,
        metadata={
            "help": "Further sets, each a mapping of data arguments (JSON on the command line), such as "
            '\'{"dataset": "user/faces", "align": true}\', and of `repeat`. Their own validation and test splits are left '
            "out of the training, to measure on."
        },
    )
    repeat: int = field(
        default=1, metadata={"help": "How often a pass goes over the training pictures of the data set."}
    )

    def __post_init__(self):
        self.sets = [parse_set(text) for text in self.also_train_on or ()]
        if min([self.repeat, *(repeat for _, repeat in self.sets)]) < 1:
            raise RecipeError("A set must be repeated at least once in a pass: leave out a set that should not count.")

    def describe(self) -> dict[str, Any]:
        """These arguments for the run's record, without where files lie on this machine."""
        sets = [
            {"repeat": repeat, **asdict(data_args), "dataset": public_name(data_args.dataset)}
            for data_args, repeat in self.sets
        ]
        defaults = asdict(DataArguments())
        return {
            "repeat": self.repeat,
            "also_train_on": [{k: v for k, v in one.items() if v != defaults.get(k)} for one in sets] or None,
        }

    def describe_sets(self, other_sets: list[DatasetDict]) -> list[dict[str, Any]]:
        """The name, splits and hash of every further set, as `describe_splits` does for the first."""
        return [
            {"dataset": public_name(data_args.dataset)} | describe_splits(splits)
            for (data_args, _), splits in zip(self.sets, other_sets, strict=True)
        ]


def parse_set(text: str) -> tuple[DataArguments, int]:
    """`{"dataset": ..., "repeat": 2}` -> its data arguments and how often a pass goes over it.

    Raises:
        RecipeError: no mapping, no dataset in it, or an unknown key (the nearest known one is named).
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecipeError(
            f"also_train_on: expected a mapping such as {{dataset: user/faces}}, got {text!r}."
        ) from error
    if not isinstance(values, dict) or "dataset" not in values:
        raise RecipeError(f"also_train_on: expected a mapping with a `dataset`, got {text!r}.")
    repeat = values.pop("repeat", 1)
    known = [entry.name for entry in fields(DataArguments)]
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            raise RecipeError(
                f"also_train_on: unknown key {key!r}." + (f" Did you mean {nearest[0]!r}?" if nearest else "")
            )
    return DataArguments(**values), repeat


def load_sets(args: MixtureArguments, faces: DatasetDict, seed: int) -> list[DatasetDict]:
    """The splits of every further set beside `faces`.

    Raises:
        RecipeError: a stream among them, which cannot be mixed by shares.
    """
    streaming = isinstance(faces, IterableDatasetDict)
    if args.sets and (streaming or any(data_args.streaming for data_args, _ in args.sets)):
        raise RecipeError("also_train_on needs every set whole: leave out streaming, or join the sets beforehand.")
    return [load_faces(data_args, seed=seed) for data_args, _ in args.sets]


def without_copies(train: Dataset, held_out: list[Dataset]) -> Dataset:
    """The pictures of `train` of which `held_out` has no identical or near-identical one (see trainer.duplicates)."""
    fingerprints = [
        fingerprint_pictures(faces.select_columns(["image"]).cast_column("image", Image(decode=False)))
        for faces in (*held_out, train)
    ]
    groups = find_groups(concatenate_datasets(fingerprints))
    first = len(groups) - len(train)
    known = set(groups[:first])
    kept = [row for row, group in enumerate(groups[first:]) if group not in known]
    if len(kept) < len(train):
        logger.warning(f"{len(train) - len(kept)} training pictures are copies of held-out ones and are left out.")
    return train.select(kept)


def mix_training_faces(args: MixtureArguments, train: Dataset, others: list[Dataset]) -> Dataset:
    """One decoded training set (see `trainer.transforms.decode_faces`), each part as often as its `repeat` says."""
    repeats = [args.repeat, *(repeat for _, repeat in args.sets)]
    parts = [train, *others]
    if any("age_low" in part.column_names for part in parts):
        parts = [_with_age_ranges(part) for part in parts]
    columns = parts[0].column_names
    return concatenate_datasets(
        [part.select_columns(columns) for part, repeat in zip(parts, repeats, strict=True) for _ in range(repeat)]
    )


def _with_age_ranges(faces: Dataset) -> Dataset:
    """An exact age is a range of one year, so that exact and ranged sets have the same columns."""
    if "age_low" in faces.column_names:
        return faces
    ages, feature = faces["age"][:], faces.features["age"]
    return faces.add_column("age_low", ages, feature=feature).add_column("age_high", ages, feature=feature)
