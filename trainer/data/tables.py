"""Read labels from tables: the columns of any table, and the `metadata.csv` files in a folder or archive of pictures."""

import io
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Any

import pandas as pd

from trainer.data import DatasetError
from trainer.data.archives import read_archive
from trainer.data.labels import (
    GENDERS,
    RACES,
    UNKNOWN_GENDER,
    FaceLabels,
    is_known,
    labels_from_values,
    parse_words,
)
from trainer.data.picture_files import files_in, is_hidden
from trainer.data.table_limits import check_columns, read_text_table


@dataclass(frozen=True)
class Columns:
    """Which tables and columns hold the labels, and what their words mean.

    `file`, `age`, `gender` and `race` may each name several columns, separated by commas: of each row the first known value
    is read. `file` may also be a path with columns in braces, such as "faces/{user_id}/{image}".
    """

    image: str = "image"
    table: str = "metadata.csv"  # name, or pattern of names, of the tables in a folder or archive
    file: str = "file_name"
    age: str = "age,age_range"
    birth: str = ""
    photo: str = ""
    gender: str = "gender"
    race: str = "race,ethnicity"
    gender_words: str = "male=male,m=male,man=male,female=female,f=female,woman=female"
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
        parse_words(self.gender_words, (*GENDERS, UNKNOWN_GENDER))
        parse_words(self.race_words, RACES)
        ages = [*_present(self.age, available), *_present(self.birth, available)]
        if not ages and not _present(self.gender, available):
            raise DatasetError(
                f"{where} has neither a column of ages ({self.age}) nor one of genders ({self.gender}), only "
                f"{', '.join(available)}. Name yours with age_column and gender_column."
            )

    def labels(self, row: Mapping[str, Any]) -> FaceLabels:
        """The labels of one row; a column that does not exist is unknown."""
        gender_words = parse_words(self.gender_words, (*GENDERS, UNKNOWN_GENDER))
        return labels_from_values(
            _first_known(self.age, row),
            _first_known(self.gender, row, gender_words),
            _first_known(self.race, row),
            gender_words,
            parse_words(self.race_words, RACES),
            _first_known(self.birth, row),
            _first_known(self.photo, row),
        )

    def file_of(self, row: Mapping[str, str]) -> str:
        """The path that a row of a table labels; "" where its cells are empty."""
        if "{" in self.file:
            return self.file.format_map(row)
        return _first_known(self.file, row) or ""

    def check_file(self, available: Collection[str], where: str) -> None:
        """
        Raises:
            DatasetError: the table `where` has no column of file names.
        """
        if "{" in self.file:
            try:
                fields = [name for _, name, _, _ in Formatter().parse(self.file) if name is not None]
            except ValueError as error:
                raise DatasetError(
                    f"file_column: {error} in {self.file!r}. Write columns in braces: {{name}}.jpg."
                ) from error
            missing = [name for name in fields if name not in available]
        else:
            missing = [] if _present(self.file, available) else [self.file]
        if missing:
            raise DatasetError(
                f"{where} has no column {missing[0]}, only {', '.join(available)}. Name the column of file names with "
                "file_column."
            )


def _present(names: str, available: Collection[str]) -> list[str]:
    """Those of the comma-separated names that are available."""
    return [name.strip() for name in names.split(",") if name.strip() in available]


def _first_known(names: str, row: Mapping[str, Any], words: Mapping[str, str] | None = None) -> Any:
    """The first known value of the row in these columns (`words` count as known); else the first value; None if none."""
    values = [row[name] for name in _present(names, row)]
    return next((value for value in values if is_known(value, words)), values[0] if values else None)


def path_key(path: str) -> str:
    """Equal for paths that name one file on different systems: with \\ for /, in another Unicode normal form, with ./ or ../."""
    return posixpath.normpath(unicodedata.normalize("NFC", path.replace("\\", "/")))


class MetadataTables:
    """The rows of every table in a folder or archive, by the `path_key` of the file that they label.

    Raises:
        DatasetError: a table cannot be read, has no column of file names, or has no column of labels.
    """

    def __init__(self, source: Path, columns: Columns):
        self.columns = columns
        self.rows: dict[str, list[dict]] = {}
        self.file_counts: Counter[str] = Counter()
        self.found = False
        for name, content in self._tables(source):
            self.found = True
            self._add(name, content)

    def _add(self, name: str, content: bytes) -> None:
        separator = _separator(content)
        check_columns(name, content, separator)
        try:
            table = pd.read_csv(io.BytesIO(content), sep=separator, dtype=str, keep_default_na=False)
        except ValueError as error:  # pandas' ParserError and EmptyDataError, and UnicodeDecodeError
            raise DatasetError(f"{name} is not a table of comma-separated values: {error}") from error
        self.columns.check_file(list(table), name)
        self.columns.check(list(table), name)
        folder = PurePosixPath(name).parent
        for row in table.to_dict("records"):
            self.rows.setdefault(path_key(f"{folder}/{self.columns.file_of(row)}"), []).append(row)

    def labels(self, file_name: str) -> FaceLabels:
        """The labels of one file, or a problem: no row, rows that contradict each other, or a row for several files."""
        key = path_key(file_name)
        rows = self.rows.get(key, [])
        if not rows:
            return FaceLabels(problem="no metadata row")
        if self.file_counts[key] > 1:
            return FaceLabels(problem="ambiguous metadata: several files of this name share a row")
        labels = {self.columns.labels(row) for row in rows}
        if len(labels) > 1:
            return FaceLabels(problem=f"ambiguous metadata: {len(rows)} rows with different labels")
        return labels.pop()

    def names_without_file(self) -> list[str]:
        """The files that have a row and do not exist, sorted."""
        return sorted(set(self.rows) - set(self.file_counts))

    def is_table(self, name: str) -> bool:
        return fnmatch(PurePosixPath(name).name, self.columns.table) and not is_hidden(name)

    def _tables(self, source: Path) -> Iterator[tuple[str, bytes]]:
        """(path, content) of every table. Counts every file in `file_counts` on the way."""
        if source.is_dir():
            for path in files_in(source):
                name = path.relative_to(source).as_posix()
                self.file_counts[path_key(name)] += 1
                if self.is_table(name):
                    yield name, read_text_table(path)
        else:
            for member in read_archive(source):
                self.file_counts[path_key(member.name)] += 1
                if self.is_table(member.name) and member.content is not None:
                    yield member.name, member.content


def _separator(content: bytes) -> str:
    """Of the cells in the first line: a comma, a tab, or the semicolon of spreadsheets in many languages."""
    first_line = content.split(b"\n", 1)[0].decode(errors="replace")
    return max(",\t;", key=first_line.count)
