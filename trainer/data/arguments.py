"""The arguments that say where the faces come from, how their labels are read and how they are split."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from trainer.data import DatasetError
from trainer.data.tables import Columns
from trainer.run_record import public_name


SplitBy = Literal["group", "picture", "picture_purged"]


@dataclass
class DataArguments:
    """Where the faces come from, how their labels are read and how they are split.

    Raises:
        DatasetError: arguments that contradict each other. Whether the data set exists shows when it is loaded.
    """

    dataset: str = field(
        default="nu-delta/utkface",
        metadata={
            "help": "A Hub id; a folder, .tar.gz, .tgz, .tar or .zip of pictures with UTKFace names or a metadata.csv; or "
            "what scripts.prepare_data wrote, as a folder or on the Hub."
        },
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the Hub dataset."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of the Hub dataset."})
    dataset_splits: list[str] | None = field(
        default=None,
        metadata={"help": "Splits of the Hub dataset to read, such as train (default: all). They are split anew."},
    )
    validation_fraction: float = field(
        default=0.1,
        metadata={"help": "Fraction of the faces in the validation split, which selects the best checkpoint."},
    )
    test_fraction: float = field(
        default=0.1, metadata={"help": "Fraction of the faces in the test split, which measures the final model."}
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "Cross-validation: number of folds. One is the test split; validation comes from the others."
        },
    )
    fold: int = field(default=0, metadata={"help": "Cross-validation: which fold is the test split, counted from 0."})
    split_by: SplitBy = field(
        default="group",
        metadata={
            "help": "'group': keep one picture of each group of duplicates. 'picture': the usual random split, with "
            "duplicates and leaks. 'picture_purged': the validation and test splits of 'picture', and a train split "
            "without duplicates of their pictures."
        },
    )
    manifest: str | None = field(
        default=None, metadata={"help": "manifest.csv of an earlier preparation: use exactly its splits and labels."}
    )
    max_age_spread: int = field(
        default=10, metadata={"help": "Drop a group of duplicates whose ages are more than this many years apart."}
    )
    max_unusable_fraction: float = field(
        default=0.1, metadata={"help": "A larger fraction of unreadable or unlabelled pictures is an error."}
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use about this many faces, for quick runs."})
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the pictures while training, in bounded memory. An unprepared source needs a manifest."
        },
    )
    align: bool = field(
        default=False,
        metadata={
            "help": "Detect the face in each picture and align it to the training template: for unaligned crops."
        },
    )
    image_column: str = field(default=Columns.image, metadata={"help": "Column of pictures in a Hub dataset."})
    metadata_file: str = field(
        default=Columns.table,
        metadata={
            "help": "Name of the tables in a folder or archive of pictures, or a pattern such as fold_*_data.txt."
        },
    )
    file_column: str = field(
        default=Columns.file,
        metadata={
            "help": "Column of file names in these tables, relative to the table; or a path with columns in braces, such as "
            "{file_name}_face.jpg."
        },
    )
    age_column: str = field(
        default=Columns.age,
        metadata={"help": "Column of ages or age ranges; of several, the first with a value in a row."},
    )
    birth_column: str = field(
        default=Columns.birth,
        metadata={"help": "Column of years or dates of birth, where there is no age; needs photo_column."},
    )
    photo_column: str = field(default=Columns.photo, metadata={"help": "Column of years or dates of the photos."})
    gender_column: str = field(default=Columns.gender, metadata={"help": "Column of genders."})
    race_column: str = field(default=Columns.race, metadata={"help": "Column of races, for evaluation only."})
    gender_words: str = field(default=Columns.gender_words, metadata={"help": "word=male,word=female,word=unknown,..."})
    race_words: str = field(
        default=Columns.race_words, metadata={"help": "word=White,... (White, Black, Asian, Indian or Others)"}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Cache folder of `datasets`."})
    num_proc: int | None = field(default=None, metadata={"help": "Processes that decode and align the pictures."})

    def __post_init__(self) -> None:
        validation, test = self.validation_fraction, self.test_fraction
        if self.split_by not in get_args(SplitBy):
            raise DatasetError(f"split_by must be one of {', '.join(get_args(SplitBy))}, got {self.split_by!r}.")
        if not (validation > 0 and test > 0 and validation + test < 1):
            raise DatasetError(
                "validation_fraction and test_fraction must be above 0 and leave something to train on, got "
                f"{validation} and {test}."
            )
        if self.manifest and (self.folds is not None or self.split_by != "group"):
            raise DatasetError("A manifest says which split each picture is in: leave out folds and split_by.")
        if self.streaming and self.align:
            raise DatasetError(
                "Faces of a stream cannot be aligned: leave out streaming, or prepare the set with align."
            )
        if bool(self.birth_column) != bool(self.photo_column):
            raise DatasetError("An age needs both dates: give birth_column and photo_column, or neither.")
        if self.fold and self.folds is None:
            raise DatasetError("fold needs folds, the number of folds.")
        if self.folds is not None and not (self.folds >= 3 and 0 <= self.fold < self.folds):
            raise DatasetError(
                f"Expected 3 folds or more and a fold from 0 to folds - 1, got {self.folds}, {self.fold}."
            )
        if self.folds is not None and validation + 1 / self.folds >= 1:
            raise DatasetError(f"A validation_fraction of {validation} and a fold leave nothing to train on.")

    def describe(self) -> dict[str, Any]:
        """These arguments for training_run.json, without what is of this machine alone."""
        names = {"dataset": public_name(self.dataset), "manifest": self.manifest and public_name(self.manifest)}
        return asdict(self) | names | {"cache_dir": None, "num_proc": None}

    @property
    def columns(self) -> Columns:
        return Columns(
            image=self.image_column,
            table=self.metadata_file,
            file=self.file_column,
            age=self.age_column,
            birth=self.birth_column,
            photo=self.photo_column,
            gender=self.gender_column,
            race=self.race_column,
            gender_words=self.gender_words,
            race_words=self.race_words,
        )
