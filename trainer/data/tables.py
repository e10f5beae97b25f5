"""Read labels from tables: the columns of any table, and the `metadata.csv` files in a folder or archive of pictures."""

import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from trainer.data import DatasetError
from trainer.data.archives import read_archive
from trainer.data.labels import GENDERS, RACES, FaceLabels, labels_from_values, parse_words
from trainer.data.picture_files import is_hidden


METADATA_NAME = "metadata.csv"


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold the labels, and what their words mean.

    `age`, `gender` and `race` may each name several columns, separated by commas: the first one that exists is read.
    """

    image: str = "image"
    age: str = "age,age_range"
    gender: str = "gender"
    race: str = "race,ethnicity"
    gender_words: str = "male=male,m=male,man=male,0=male,female=female,f=female,woman=female,1=female"
    race_words: str = (
        "white=White,black=Black,asian=Asian,east asian=Asian,southeast asian=Asian,indian=Indian,"
        "others=Others,other=Others,middle eastern=Others,latino_hispanic=Others"
    )

    def check(self, available: Collection[str], where: str) -> None:
        """Check that a table with the columns `available` has labels.

        Args:
            where: the name of the table, for error messages.

        Raises:
            DatasetError: neither a column of ages nor one of genders, or words that are not word=label.
        """
        parse_words(self.gender_words, GENDERS)
        parse_words(self.race_words, RACES)
        if not first_column(self.age, available) and not first_column(self.gender, available):
            raise DatasetError(
                f"{where} has neither a column of ages ({self.age}) nor one of genders ({self.gender}), only "
                f"{', '.join(available)}. Name yours with age_column and gender_column."
            )

    def labels(self, row: Mapping[str, Any]) -> FaceLabels:
        """The labels of one row; a column that does not exist is unknown."""
        age, gender, race = (row.get(first_column(names, row) or "") for names in (self.age, self.gender, self.race))
        return labels_from_values(
            age, gender, race, parse_words(self.gender_words, GENDERS), parse_words(self.race_words, RACES)
        )


def first_column(names: str, available: Collection[str]) -> str | None:
    """The first of the comma-separated names that is available; None if there is none."""
    return next((name.strip() for name in names.split(",") if name.strip() in available), None)


class MetadataTables:
    """The rows of every `metadata.csv` in a folder or archive, by the path of the file that they label.

    Raises:
        DatasetError: a `metadata.csv` is not a table, has no column `file_name`, or has no column of labels.
    """

    def __init__(self, source: Path, columns: Columns):
        self.columns = columns
        self.rows: dict[str, list[dict]] = {}
        self.file_counts: Counter[str] = Counter()
        self.found = False
        for name, content in _tables(source, self.file_counts):
            self.found = True
            self._add(name, content)

    def _add(self, name: str, content: bytes) -> None:
        try:
            table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        except ValueError as error:  # pandas' ParserError and EmptyDataError, and UnicodeDecodeError
            raise DatasetError(f"{name} is not a table of comma-separated values: {error}") from error
        if "file_name" not in table:
            raise DatasetError(f"{name} has no column file_name, only {', '.join(table)}.")
        self.columns.check(list(table), name)
        folder = PurePosixPath(name).parent
        for row in table.to_dict("records"):
            self.rows.setdefault((folder / row["file_name"]).as_posix(), []).append(row)

    def labels(self, file_name: str) -> FaceLabels:
        """The labels of one file, or a problem: no row, rows that contradict each other, or a row for several files."""
        rows = self.rows.get(PurePosixPath(file_name).as_posix(), [])
        if not rows:
            return FaceLabels(problem="no metadata row")
        if self.file_counts[file_name] > 1:
            return FaceLabels(problem="ambiguous metadata: several files of this name share a row")
        labels = {self.columns.labels(row) for row in rows}
        if len(labels) > 1:
            return FaceLabels(problem=f"ambiguous metadata: {len(rows)} rows with different labels")
        return labels.pop()

    def names_without_file(self) -> list[str]:
        """The files that have a row and do not exist, sorted."""
        return sorted(set(self.rows) - {PurePosixPath(name).as_posix() for name in self.file_counts})


def _tables(source: Path, file_counts: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every metadata.csv. Counts every file name in `file_counts` on the way."""
    if source.is_dir():
        for path in source.rglob("*"):
            if not path.is_dir():
                name = path.relative_to(source).as_posix()
                file_counts[name] += 1
                if _is_table(name):
                    yield name, path.read_bytes()
    else:
        for member in read_archive(source):
            file_counts[member.name] += 1
            if _is_table(member.name) and member.content is not None:
                yield member.name, member.content


def _is_table(name: str) -> bool:
    return PurePosixPath(name).name == METADATA_NAME and not is_hidden(name)
