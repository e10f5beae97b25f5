"""Train on several data sets: the first one validates and tests, the others only add training pictures."""

import json
import logging
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, concatenate_datasets

from trainer.data.arguments import DataArguments
from trainer.data.cleaning import find_groups, fingerprint_pictures
from trainer.data.loading import load_faces
from trainer.data.transforms import decode_faces
from trainer.recipe import RecipeError, parse_mapping
from trainer.run_record import describe_splits, public_name


logger = logging.getLogger(__name__)


@dataclass
class SetArguments(DataArguments):
    """A further data set to train on."""

    repeat: int = field(default=1, metadata={"help": "How often an epoch goes over its training pictures."})


@dataclass
class MixtureArguments:
    """Which pictures an epoch consists of, besides those of the data set itself.

    Raises:
        RecipeError: a further set that is not understood, or a `repeat` below 1.
    """

    also_train_on: list[str] | None = field(
        default=None,
        metadata={
            "help": "Further sets, each a mapping of data arguments (JSON on the command line), such as "
            '\'{"dataset": "user/faces", "align": true}\', and of `repeat`. They inherit num_proc and cache_dir. Their own '
            "validation and test splits are held out, so that the model can be evaluated on them."
        },
    )
    repeat: int = field(
        default=1, metadata={"help": "How often an epoch goes over the training pictures of the data set."}
    )

    def __post_init__(self) -> None:
        self.sets = [parse_set(text) for text in self.also_train_on or ()]
        if min(self.repeats) < 1:
            raise RecipeError(
                "Every set is repeated at least once (repeat: 1): leave out a set that should not be trained on."
            )

    @property
    def repeats(self) -> list[int]:
        """Of the data set itself and of every further one."""
        return [self.repeat, *(one.repeat for one in self.sets)]

    def inheriting(self, data: DataArguments) -> "MixtureArguments":
        """A copy whose sets have `num_proc` and `cache_dir` of the first set where they say nothing else."""
        inherited = copy(self)
        inherited.sets = [
            replace(
                one,
                num_proc=data.num_proc if one.num_proc is None else one.num_proc,
                cache_dir=data.cache_dir if one.cache_dir is None else one.cache_dir,
            )
            for one in self.sets
        ]
        return inherited

    def describe(self) -> dict[str, Any]:
        """These arguments for training_run.json, without paths on this machine."""
        defaults = asdict(SetArguments())
        sets = [one.describe() for one in self.sets]
        changed = [{name: value for name, value in one.items() if value != defaults[name]} for one in sets]
        return {"repeat": self.repeat, "also_train_on": changed or None}

    def describe_sets(self, other_sets: list[DatasetDict]) -> list[dict[str, Any]]:
        """Name, splits and hashes of every further set, as `describe_splits` gives them for the first."""
        return [
            {"dataset": public_name(one.dataset)} | describe_splits(splits)
            for one, splits in zip(self.sets, other_sets, strict=True)
        ]


def parse_set(text: str) -> SetArguments:
    """Read `{"dataset": ..., "repeat": 2}`.

    Raises:
        RecipeError: not a mapping, no dataset in it, an unknown key or a value of the wrong type.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict) or "dataset" not in values:
        raise RecipeError(f"also_train_on: expected a mapping such as {{dataset: user/faces}}, got {text!r}.")
    return parse_mapping(values, SetArguments, "also_train_on")


class TrainingFaces(NamedTuple):
    """What a run trains and validates on.

    splits: of the first set. other_sets: the splits of each further one.
    train: the decoded training faces of all sets, each as often as its `repeat` says, with the columns of
        `trainer.data.transforms.decode_faces`.
    validation: the decoded validation faces of every set, the first one's first.
    train_rows: the faces of `train` before they were decoded, in the same order, in one or more parts.
    """

    splits: DatasetDict | IterableDatasetDict
    other_sets: list[DatasetDict]
    train: Dataset | IterableDataset
    validation: list[Dataset | IterableDataset]
    train_rows: list[Dataset | IterableDataset]


def load_sets(data: DataArguments, mixture: MixtureArguments, seed: int) -> list[Any]:
    """The splits of every set to train on, those of `data` first; the only one may be a stream.

    Args:
        seed: of the splits.

    Raises:
        RecipeError: one of several sets is a stream, whose size is not known.
        DatasetError: as `load_faces`.
    """
    if mixture.sets and any(one.streaming for one in (data, *mixture.sets)):
        raise RecipeError("also_train_on needs every set whole: leave out streaming, or join the sets beforehand.")
    return [load_faces(one, seed=seed) for one in (data, *mixture.sets)]


def decode_sets(
    sets: list[Any], mixture: MixtureArguments, image_size: int, train_size: int, num_proc: int | None
) -> TrainingFaces:
    """
    Args:
        sets: as `load_sets` returns them.
        image_size, train_size, num_proc: see `trainer.data.transforms.decode_faces`.
    """
    first, *others = sets
    train = training_faces(sets)
    decoded = [
        decode_faces(type(one)(train=faces, validation=one["validation"]), image_size, train_size, num_proc)
        for one, faces in zip(sets, train, strict=True)
    ]
    return TrainingFaces(
        splits=first,
        other_sets=others,
        train=mix_training_faces(mixture, [one["train"] for one in decoded]),
        validation=[one["validation"] for one in decoded],
        train_rows=[faces for faces, times in zip(train, mixture.repeats, strict=True) for _ in range(times)],
    )


def training_faces(sets: list[DatasetDict]) -> list[Dataset]:
    """The training pictures of each set, without duplicates of what the other sets hold out."""
    held_out = [[splits["validation"], splits["test"]] for splits in sets]
    of_others = [[split for other in (*held_out[:i], *held_out[i + 1 :]) for split in other] for i in range(len(sets))]
    return [without_duplicates(splits["train"], others) for splits, others in zip(sets, of_others, strict=True)]


def without_duplicates(train: Dataset, held_out: list[Dataset]) -> Dataset:
    """The pictures of `train` that have no duplicate in `held_out` (see trainer.data.duplicates)."""
    if not held_out:
        return train
    fingerprints = [fingerprint_pictures(faces.select_columns(["image"])) for faces in (*held_out, train)]
    groups = find_groups(concatenate_datasets(fingerprints))
    first = len(groups) - len(train)
    known = set(groups[:first])
    kept = [row for row, group in enumerate(groups[first:]) if group not in known]
    if len(kept) < len(train):
        logger.warning(
            f"{len(train) - len(kept)} training pictures are left out: they are duplicates of held-out ones."
        )
    return train.select(kept)


def mix_training_faces(args: MixtureArguments, parts: list[Dataset]) -> Dataset:
    """One decoded training set (see `trainer.data.transforms.decode_faces`), each part as often as its `repeat` says."""
    if args.repeats == [1]:  # a stream, too
        return parts[0]
    if any("age_low" in part.column_names for part in parts):
        parts = [_with_age_ranges(part) for part in parts]
    columns = parts[0].column_names
    return concatenate_datasets(
        [part.select_columns(columns) for part, repeat in zip(parts, args.repeats, strict=True) for _ in range(repeat)]
    )


def _with_age_ranges(faces: Dataset) -> Dataset:
    """An exact age is a range of one year, so sets with exact ages and with ranges get the same columns."""
    if "age_low" in faces.column_names:
        return faces
    ages, feature = faces["age"][:], faces.features["age"]
    return faces.add_column("age_low", ages, feature=feature).add_column("age_high", ages, feature=feature)
