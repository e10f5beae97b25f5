"""What is written: the rows, and the folder of finished parts from which a stopped run resumes."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.errors import AgeGenderError
from model_card.output_files import ENCODING as CSV_ENCODING
from model_card.output_files import fill_atomically, sync, write_atomically, write_csv
from scoring.scorer import Scored


OUTPUT_SUFFIXES = (".parquet", ".csv", ".jsonl")
AGAIN = "Fix that, then start the same command again: it resumes."  # the end of an error message
_MERGED = "merged"  # marks parts that are joined already: a kill may come before they are removed


class OutputError(AgeGenderError):
    """The results cannot be written there."""


@dataclass(frozen=True)
class OutputCounts:
    """What an output holds. errors: pictures that could not be used."""

    pictures: int
    faces: int
    errors: int

    def __add__(self, other: "OutputCounts") -> "OutputCounts":
        return OutputCounts(self.pictures + other.pictures, self.faces + other.faces, self.errors + other.errors)


def table_schema(age_range_labels: Iterable[str], gender_names: Iterable[str]) -> pa.Schema:
    """One row a face, named as the pipeline names its answers; a picture without an answer has one row with the reason.

    picture: its place in the input, from 0. face: from left to right, from 0. box: pixels. seconds: into a video.
    roll_degrees: of the head, clockwise.
    """
    return pa.schema(
        {
            "picture": pa.int64(),
            "file": pa.string(),
            "seconds": pa.float64(),
            "face": pa.int32(),
            "box": pa.list_(pa.int32(), 4),
            "detection_score": pa.float64(),
            "roll_degrees": pa.int32(),
            "age": pa.float64(),
            "age_interval": pa.list_(pa.int32(), 2),
            "age_range": pa.string(),
            "age_ranges": pa.struct(dict.fromkeys(age_range_labels, pa.float64())),
            "gender": pa.string(),
            "genders": pa.struct(dict.fromkeys(gender_names, pa.float64())),
            "abstained": pa.string(),
            "error": pa.string(),
        }
    )


def answer_rows(scored: Scored) -> list[dict[str, Any]]:
    """The rows of one picture, at least one; unknown values are left out."""
    start: dict[str, Any] = {"picture": scored.index, "file": scored.name}
    if scored.seconds is not None:
        start["seconds"] = scored.seconds
    if scored.problem is not None:
        return [start | {"error": scored.problem}]
    if not scored.faces:
        return [start | {"abstained": "No face was found."}]
    return [
        start | {"face": number} | {name: value for name, value in face.items() if value is not None}
        for number, face in enumerate(scored.faces)
    ]


def write_json_lines(rows: Iterable[dict[str, Any]], file: IO[str]) -> None:
    """One JSON object a row, flushed at once: a long run can be watched."""
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()


def write_faces_csv(rows: Iterable[dict[str, Any]], file: IO[str], schema: pa.Schema) -> None:
    """A header and a line a row, for spreadsheets: what the schema nests has a column for each of its values.

    A range of ages is written "3 to 9", because "3-9" would become a date.
    """
    age_range_labels, gender_names = (
        [field.name for field in schema.field(name).type] for name in ("age_ranges", "genders")
    )
    columns = [
        *("picture", "file", "seconds", "face", "x0", "y0", "x1", "y1", "detection_score", "roll_degrees"),
        *("age", "age_low", "age_high", "age_range", "gender", "gender_probability", "abstained", "error"),
        *(f"age_range {label}" for label in age_range_labels),
        *(f"gender {name}" for name in gender_names),
    ]

    def cells(row: dict[str, Any]) -> list[object]:
        flat = dict(row)
        flat |= dict(zip(("x0", "y0", "x1", "y1"), row.get("box") or (), strict=False))
        flat |= dict(zip(("age_low", "age_high"), row.get("age_interval") or (), strict=False))
        if "age_range" in row:
            flat["age_range"] = row["age_range"].replace("-", " to ")
            flat["gender_probability"] = max(row["genders"].values())
            flat |= {f"age_range {label}": probability for label, probability in row["age_ranges"].items()}
            flat |= {f"gender {name}": probability for name, probability in row["genders"].items()}
        return [flat.get(column) for column in columns]

    write_csv(file, columns, map(cells, rows))


def count_rows(table: pa.Table) -> OutputCounts:
    """What a table of `answer_rows` holds, all rows of each of its pictures."""
    faces, errors = (len(table) - table[name].null_count for name in ("face", "error"))
    return OutputCounts(len(pc.unique(table["picture"])), faces, errors)


def part_name(part: int) -> str:
    return f"part-{part:06d}.parquet"


def part_numbers(names: Iterable[str]) -> set[int]:
    """The numbers of the parts among these files."""
    matches = (re.fullmatch(r"part-(\d+)\.parquet", name) for name in names)
    return {int(match[1]) for match in matches if match}


def check_same_settings(where: str | Path, asked: Mapping[str, Any], started: Mapping[str, Any]) -> None:
    """
    Args:
        where: the folder of a run, for the message.
        started: the settings of that run, as its JSON file gives them back.

    Raises:
        OutputError: a setting differs, so the run's rows would be mixed with others.
    """
    asked = json.loads(json.dumps(asked))
    changed = [name for name in asked if asked[name] != started.get(name)]
    if changed:
        raise OutputError(
            f"{where} holds a run with other settings: {', '.join(changed)}. Resume it with the same options, choose another "
            "--output, or remove that folder to start again."
        )


def parts_folder(output: Path) -> Path:
    """Where the parts of an unfinished output are."""
    return output.with_name(output.name + ".parts")


class Parts:
    """The folder `OUTPUT.parts`: settings.json, and one parquet file for each `part_size` pictures of the input.

    A part appears under its name only when it is whole, so a part that is there is done.
    """

    def __init__(self, output: Path, schema: pa.Schema):
        self.output, self.schema = output, schema
        self.folder = parts_folder(output)

    def is_finished(self) -> bool:
        """Whether the output is complete, though a kill may have left some of the folder."""
        return self.output.exists() and (self.folder / _MERGED).exists()

    def begin(self, settings: dict[str, Any]) -> None:
        """Start a new run, or resume one that was started with the same settings.

        Raises:
            OutputError: the run was started with other settings, whose rows would be mixed with these; or the folder
                cannot be written.
        """
        path = self.folder / "settings.json"
        with self._disk_errors_explained():
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._remove_parts()  # of a finished run: a kill stopped their removal
                write_atomically(path, json.dumps(settings, indent=1) + "\n")
                return
            started = json.loads(path.read_text(encoding="utf-8"))
        check_same_settings(self.folder, settings, started)

    def done(self) -> set[int]:
        """The numbers of the parts that are written."""
        return part_numbers(path.name for path in self.folder.iterdir())

    def write(self, part: int, rows: Iterable[dict[str, Any]]) -> None:
        """
        Raises:
            OutputError: the part cannot be written.
        """
        table = pa.Table.from_pylist(list(rows), self.schema)
        with self._disk_errors_explained():
            fill_atomically(self._path(part), lambda file: pq.write_table(table, file, compression="zstd"))

    def merge(self, count: int) -> OutputCounts:
        """Join parts 0 to `count` - 1 into the output, with one in memory at a time, and remove the folder.

        Raises:
            OutputError: a part is missing, or the output cannot be written; the folder stays.
        """
        merged = self.folder / f"output{self.output.suffix}"
        counts = OutputCounts(0, 0, 0)

        def tables() -> Iterator[pa.Table]:
            nonlocal counts
            for part in range(count):
                table = pq.read_table(self._path(part), schema=self.schema)
                counts += count_rows(table)
                yield table

        with self._disk_errors_explained():
            _write_tables(tables(), self.schema, merged)
            sync(merged)
            (self.folder / _MERGED).touch()
            os.replace(merged, self.output)
            self.clear()
        return counts

    def clear(self) -> None:
        """Remove the folder, the parts first: if a kill stops it, the rest still says that they were joined."""
        with self._disk_errors_explained():
            self._remove_parts()
            (self.folder / "settings.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder)

    @contextmanager
    def _disk_errors_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written or read: {error}. {AGAIN}") from error

    def _remove_parts(self) -> None:
        for part in self.done():
            self._path(part).unlink()

    def _path(self, part: int) -> Path:
        return self.folder / part_name(part)


def _write_tables(tables: Iterator[pa.Table], schema: pa.Schema, path: Path) -> None:
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
        return
    rows = (row for table in tables for row in _table_rows(table))
    if path.suffix == ".csv":
        with path.open("w", encoding=CSV_ENCODING, newline="") as file:
            write_faces_csv(rows, file, schema)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            write_json_lines(rows, file)


def _table_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of `answer_rows`, from a table of them."""
    for row in table.to_pylist():
        yield {name: value for name, value in row.items() if value is not None}
