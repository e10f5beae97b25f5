"""The arguments that say where the faces come from, how their labels are read and how they are split."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from trainer.data.tables import Columns


SplitBy = Literal["group", "picture", "picture_purged"]


@dataclass
class DataArguments:
    """Where the faces come from, how their labels are read and how they are split."""

    dataset: str = field(
        default="nu-delta/utkface",
        metadata={
            "help": "A Hub id; a folder, .tar.gz, .tgz, .tar or .zip of UTKFace names or of pictures with a metadata.csv; "
            "or what scripts.prepare_data wrote, as a folder or on the Hub."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the Hub dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of the Hub dataset."})
    dataset_splits: list[str] | None = field(
        default=None,
        metadata={"help": "Which splits of the Hub dataset to read, such as train; all unless given, and split anew."},
    )
    validation_share: float = field(default=0.1, metadata={"help": "Share of the faces to choose the model on."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the faces to measure the model on, once."})
    folds: int | None = field(
        default=None,
        metadata={"help": "Cross-validation: one of this many folds tests; of the others a part validates."},
    )
    fold: int = field(default=0, metadata={"help": "Which fold tests, from 0."})
    split_by: SplitBy = field(
        default="group",
        metadata={
            "help": "'group': one picture of each group of copies. 'picture': the usual random split, copies and leaks "
            "included. 'picture_purged': the validation and test of 'picture', and a train split without their copies."
        },
    )
    manifest: str | None = field(
        default=None, metadata={"help": "manifest.csv of an earlier preparation: its splits and labels, exactly."}
    )
    max_age_spread: int = field(
        default=10, metadata={"help": "Copies of one picture whose ages are further apart (years) are all dropped."}
    )
    max_unusable_share: float = field(
        default=0.1, metadata={"help": "A larger share of unreadable or unlabelled pictures is an error."}
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use about this many faces: for quick runs."})
    streaming: bool = field(
        default=False,
        metadata={"help": "Read while training, in bounded memory. A source that is not prepared needs a manifest."},
    )
    align: bool = field(
        default=False,
        metadata={"help": "Find the face in each picture and cut it out as the pipeline does: for faces cut loosely."},
    )
    image_column: str = field(default=Columns.image, metadata={"help": "Column of pictures in a Hub dataset."})
    age_column: str = field(
        default=Columns.age, metadata={"help": "Column of ages or age ranges; of several, the first there is."}
    )
    gender_column: str = field(default=Columns.gender, metadata={"help": "Column of genders."})
    race_column: str = field(
        default=Columns.race, metadata={"help": "Column of races, for evaluation only."}
    )
    gender_words: str = field(default=Columns.gender_words, metadata={"help": "word=male,word=female,..."})
    race_words: str = field(
        default=Columns.race_words, metadata={"help": "word=White,... (White, Black, Asian, Indian or Others)"}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where `datasets` keeps what it has read."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode and align the pictures."})

    def __post_init__(self):
        if self.split_by not in get_args(SplitBy):
            raise ValueError(f"split_by must be one of {', '.join(get_args(SplitBy))}, got {self.split_by!r}.")
        if self.dataset_splits and Path(self.dataset).expanduser().exists():
            raise ValueError(f"dataset_splits is for sets of the Hub, and {self.dataset} lies here: leave it out.")
        if not (self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 1):
            raise ValueError(
                "validation_share and test_share must be above 0 and leave something to train on, got "
                f"{self.validation_share} and {self.test_share}."
            )
        if self.manifest and (self.folds is not None or self.split_by != "group"):
            raise ValueError("A manifest says which split each picture is in: leave out folds and split_by beside it.")
        if self.streaming and self.align:
            raise ValueError("Faces of a stream cannot be aligned: leave out streaming, or prepare the set with align.")
        if self.folds is not None and not (self.folds >= 3 and 0 <= self.fold < self.folds):
            raise ValueError(f"Expected 3 folds or more and a fold from 0 to folds - 1, got {self.folds}, {self.fold}.")
        if self.folds is not None and self.validation_share + 1 / self.folds >= 1:
            raise ValueError(f"A validation_share of {self.validation_share} and a fold leave nothing to train on.")

    @property
    def columns(self) -> Columns:
        return Columns(
            image=self.image_column,
            age=self.age_column,
            gender=self.gender_column,
            race=self.race_column,
            gender_words=self.gender_words,
            race_words=self.race_words,
        )
