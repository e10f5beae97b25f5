"""UTKFace or any labelled faces -> a DatasetDict with splits that do not leak."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDatasetDict,
    Value,
    concatenate_datasets,
    load_dataset,
)

from trainer.archives import is_archive
from trainer.cleaning import LABELS, group_pictures, settle_groups
from trainer.labels import UNKNOWN
from trainer.sources import read_files, read_hub
from trainer.splits import SPLITS, shuffle_key, split_names, stratum
from trainer.tables import Columns


_FEATURES = {
    "age": Value("int32"),
    "gender": Value("int8"),
    "race": Value("string"),
    "file_name": Value("string"),
    "group": Value("string"),
}
_AGE_RANGE_FEATURES = {"age_low": Value("int32"), "age_high": Value("int32")}


@dataclass
class DataArguments:
    """Where the faces come from, how their labels are read and how they are split."""

    dataset: str = field(
        default="nu-delta/utkface",
        metadata={
            "help": "A Hub id; a folder or .tar.gz, .tgz or .zip of UTKFace names or of pictures with a metadata.csv; "
            "or a folder written by scripts.prepare_data."
        },
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of the Hub dataset."})
    validation_share: float = field(default=0.1, metadata={"help": "Share of the faces to choose the model on."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the faces to measure the model on, once."})
    folds: int | None = field(
        default=None, metadata={"help": "Cross-validation: one of this many folds tests, the next one validates."}
    )
    fold: int = field(default=0, metadata={"help": "Which fold tests, from 0."})
    split_by: str = field(
        default="group",
        metadata={
            "help": "'group': one picture a group of copies, none in two splits. 'picture': the usual random split, copies and "
            "leaks included. 'picture_purged': validation and test of 'picture', and a train split without copies of them."
        },
    )
    manifest: str | None = field(
        default=None, metadata={"help": "manifest.csv of an earlier preparation: its splits and labels, exactly."}
    )
    max_age_spread: int = field(
        default=10, metadata={"help": "Copies of one picture that are labelled further apart (years) are dropped."}
    )
    max_unusable_share: float = field(
        default=0.1, metadata={"help": "A larger share of unreadable or unlabelled files is an error."}
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use about this many faces: for quick runs."})
    streaming: bool = field(
        default=False, metadata={"help": "Read while training: for prepared sets larger than the disk."}
    )
    image_column: str = field(default=Columns.image, metadata={"help": "Column of pictures in a Hub dataset."})
    age_column: str = field(
        default=Columns.age, metadata={"help": "Column of ages or age ranges; of several, the first there is."}
    )
    gender_column: str = field(default=Columns.gender, metadata={"help": "Column of genders."})
    race_column: str = field(default=Columns.race, metadata={"help": "Column of races, read for evaluation only."})
    gender_words: str = field(default=Columns.gender_words, metadata={"help": "word=male,word=female,..."})
    race_words: str = field(default=Columns.race_words, metadata={"help": "word=White|Black|Asian|Indian|Others,..."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where `datasets` keeps what it read."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode pictures for cleaning."})

    def __post_init__(self):
        if self.split_by not in ("group", "picture", "picture_purged"):
            raise ValueError(f"split_by must be group, picture or picture_purged, got {self.split_by!r}.")
        if not (self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 1):
            raise ValueError(
                "validation_share and test_share must be above 0 and leave something to train on, got "
                f"{self.validation_share} and {self.test_share}."
            )
        if self.folds is not None and not (self.folds >= 3 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"Expected folds of 3 or more and fold from 0 to folds - 1, got {self.folds} and {self.fold}."
            )

    @property
    def columns(self) -> Columns:
        return Columns(
            self.image_column, self.age_column, self.gender_column, self.race_column, self.gender_words, self.race_words
        )


def load_faces(args: DataArguments, *, seed: int) -> DatasetDict | IterableDatasetDict:
    """Splits train, validation and test, cleaned and grouped, the same for the same pictures and seed wherever they lie.

    Columns: `image`; `age` whole years and `gender` (0 male, 1 female), -100 where unknown; `race` ("unknown" or one of
    trainer.labels.RACES; for evaluation only); `file_name`; `group`. Where any age is a range, also `age_low` and `age_high`,
    years included, -100 where unknown. Rows lie in an order that is random and depends on content and seed alone.

    Raises:
        ValueError: no such source, nothing labelled in it, too much of it unusable, or too little to split.
    """
    prepared = load_prepared(args)
    if prepared is not None:
        return prepared
    pictures = read_pictures(args)
    return select_splits(pictures, build_manifest(pictures, args, seed), args, seed)


def read_pictures(args: DataArguments) -> Dataset:
    """The source as it is: every file or row with its labels and problems, nothing decoded."""
    path = Path(args.dataset).expanduser()
    if path.is_dir() or (path.is_file() and is_archive(path)):
        return read_files(path, args.columns, args.cache_dir)
    if path.is_file():
        raise ValueError(f"{path} is a single file: expected a folder, a .tar.gz, .tgz, .tar or .zip, or a Hub id.")
    return read_hub(args.dataset, args.dataset_revision, args.columns, args.cache_dir)


def build_manifest(pictures: Dataset, args: DataArguments, seed: int) -> pd.DataFrame:
    """One row a picture, in the order of `pictures`: its labels, hash, group, whether it is kept or why not, and its split.

    `content` names what a kept picture shows; it decides the split and the order of the rows.
    """
    table = group_pictures(pictures, args.num_proc)
    check_usable(table, args)
    if args.split_by == "group":
        table = settle_groups(table, args.max_age_spread)
        content = table["group"]
    else:
        table = table.assign(kept=table["problem"] == "", reason=table["problem"])
        twin = table.sort_values([*LABELS, "file_name"]).groupby("pixel_hash").cumcount()
        content = table["pixel_hash"] + ":" + twin.astype(str)
    table = table.drop(columns="problem").assign(content=content, split="")
    kept = table[table["kept"]]
    table.loc[kept.index, "split"] = split_table(kept, args, seed)
    if args.split_by == "picture_purged":
        held_out = table.loc[table["split"].isin(["validation", "test"]), "group"]
        leaks = (table["split"] == "train") & table["group"].isin(held_out)
        table.loc[leaks, ["kept", "reason", "split"]] = [False, "copy: of a picture in validation or test", ""]
    return table


def split_table(kept: pd.DataFrame, args: DataArguments, seed: int) -> list[str]:
    strata = [stratum(*cell) for cell in zip(kept["age_low"], kept["age_high"], kept["gender"], strict=True)]
    return split_names(
        kept["content"].tolist(), strata, seed, args.validation_share, args.test_share, args.folds, args.fold
    )


def check_usable(table: pd.DataFrame, args: DataArguments) -> None:
    """Raises ValueError if more than the stated share of the pictures has a problem. Files of other kinds do not count."""
    pictures = table[table["problem"] != "not a picture"]
    failed = pictures[pictures["problem"] != ""]
    if len(failed) > args.max_unusable_share * len(pictures) or len(failed) == len(pictures):
        reasons = Counter(failed["problem"].str.partition(":")[0]).most_common()
        raise ValueError(
            f"{len(failed)} of {len(pictures)} pictures of {args.dataset} cannot be used, more than the share of "
            f"{args.max_unusable_share} that max_unusable_share allows: {', '.join(f'{n} {why}' for why, n in reasons)}. "
            f"First: {failed.iloc[0]['file_name']}: {failed.iloc[0]['problem']}."
        )


def select_splits(pictures: Dataset, manifest: pd.DataFrame, args: DataArguments, seed: int) -> DatasetDict:
    """The kept pictures with their settled labels, each split in an order that content and seed decide."""
    labels = manifest[[*LABELS, "file_name", "group"]]
    features = dict(_FEATURES)
    if ((manifest["age"] == UNKNOWN) & (manifest["age_low"] != UNKNOWN) & manifest["kept"]).any():
        features |= _AGE_RANGE_FEATURES
    labels = Dataset.from_pandas(labels[list(features)], features=Features(features), preserve_index=False)
    faces = concatenate_datasets([pictures.select_columns(["image"]), labels], axis=1).cast_column("image", Image())
    kept = manifest[manifest["kept"]]
    order = kept["content"].map(lambda content: shuffle_key(content, seed)).sort_values().index
    splits = DatasetDict()
    for split in SPLITS:
        rows = [row for row in order if manifest.at[row, "split"] == split]
        if args.max_samples:
            rows = rows[: -(-len(rows) * args.max_samples // len(kept))]
        if not rows:
            raise ValueError(
                f"{len(kept)} usable faces in {args.dataset} are too few: the {split} split is empty. Add pictures, or change the shares."
            )
        splits[split] = faces.select(rows)
    return splits


def load_prepared(args: DataArguments) -> DatasetDict | IterableDatasetDict | None:
    """The splits of a folder written by scripts.prepare_data, as they are; None for anything else."""
    folder = Path(args.dataset).expanduser() / "data"
    files = {split: sorted(map(str, folder.glob(f"{split}-*.parquet"))) for split in SPLITS}
    if not all(files.values()):
        return None
    return load_dataset("parquet", data_files=files, cache_dir=args.cache_dir, streaming=args.streaming)
