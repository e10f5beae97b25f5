"""Answers as the rows of a table, and tables as parquet, JSON lines or CSV."""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoring.scorer import Scored
from trainer.atomic_files import fill_whole, sync, write_whole


CSV_COLUMNS = (
    *("picture", "file", "seconds", "face", "x0", "y0", "x1", "y1", "detection_score", "age", "age_low", "age_high"),
    *("age_range", "gender", "gender_probability", "abstained", "error"),
)


def table_schema(age_range_labels: Iterable[str], gender_names: Iterable[str]) -> pa.Schema:
    """One row a face, named as the pipeline names its answers; a picture without an answer has one row with the reason.

    picture: its place in the input, from 0. face: from left to right, from 0. box: pixels. seconds: into a video.
    """
    return pa.schema(
        {
            "picture": pa.int64(),
            "file": pa.string(),
            "seconds": pa.float64(),
            "face": pa.int32(),
            "box": pa.list_(pa.int32(), 4),
            "detection_score": pa.float64(),
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
    """At least one row; what is not known is left out."""
    start = {"picture": scored.index, "file": scored.name}
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


def table_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of `answer_rows` back from a table of them."""
    for row in table.to_pylist():
        yield {name: value for name, value in row.items() if value is not None}


def write_json_lines(rows: Iterable[dict[str, Any]], file: IO[str]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()  # a long run can be watched


class CsvWriter:
    """One column a field; distributions only as their most probable answer and, for gender, its probability."""

    def __init__(self, file: IO[str]):
        self._writer = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore")
        self._writer.writeheader()

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            flat = dict(row)
            flat |= dict(zip(("x0", "y0", "x1", "y1"), row.get("box") or (), strict=False))
            flat |= dict(zip(("age_low", "age_high"), row.get("age_interval") or (), strict=False))
            if row.get("genders"):
                flat["gender_probability"] = max(row["genders"].values())
            self._writer.writerow(flat)


OUTPUT_SUFFIXES = (".parquet", ".csv", ".jsonl")
_MERGED = "merged"  # written just before the output appears: a kill between that and the clearing up is told by it


class MissingPartsError(RuntimeError):
    """Not every part was written; the message says where, and what to do."""


def parts_folder(output: Path) -> Path:
    return output.with_name(output.name + ".parts")


class Parts:
    """The folder `OUTPUT.parts`: settings.json and one parquet file for each `part_size` pictures of the input.

    A part appears under its name only when it is whole, so that a part that is there is done. Parts are numbered by
    the pictures they hold, whichever process wrote them.
    """

    def __init__(self, output: Path, schema: pa.Schema):
        self.output, self.schema = output, schema
        self.folder = parts_folder(output)

    def is_finished(self) -> bool:
        """Was this output completed, though a kill may have left the parts behind?"""
        return self.output.exists() and (self.folder / _MERGED).exists()

    def begin(self, settings: dict[str, Any]) -> None:
        """Start anew, or go on with what was begun under the same settings.

        Raises:
            ValueError: it was begun with other settings, whose results would be mixed with these.
        """
        path = self.folder / "settings.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_parts()  # of a finished run, whose clearing up was cut off
            write_whole(path, json.dumps(settings, indent=1) + "\n")
            return
        begun = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in settings if settings[name] != begun.get(name)]
        if changed:
            raise ValueError(
                f"{self.folder} contains a run with another {', '.join(changed)}. Resume it with the same options, choose "
                "another --output, or remove that folder to start again."
            )

    def done(self) -> set[int]:
        names = (re.fullmatch(r"part-(\d+)\.parquet", path.name) for path in self.folder.iterdir())
        return {int(name[1]) for name in names if name}

    def write(self, part: int, rows: Iterable[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist(list(rows), self.schema)
        fill_whole(self._path(part), lambda file: pq.write_table(table, file, compression="zstd"))

    def merge(self, count: int) -> dict[str, int]:
        """Join parts 0 to `count` - 1 into the output, one in memory at a time, and clear up.

        Returns:
            How many pictures, faces and errors there are.

        Raises:
            MissingPartsError: a part is not in the folder; what is there stays.
        """
        missing = set(range(count)) - self.done()
        if missing:
            raise MissingPartsError(
                f"{len(missing)} of {count} parts are missing in {self.folder}. Start the command again."
            )
        merged = self.folder / f"output{self.output.suffix}"
        counts = {"pictures": 0, "faces": 0, "errors": 0}

        def tables() -> Iterator[pa.Table]:
            for part in range(count):
                table = pq.read_table(self._path(part), schema=self.schema)
                counts["pictures"] += len(pc.unique(table["picture"]))
                counts["faces"] += len(table) - table["face"].null_count
                counts["errors"] += len(table) - table["error"].null_count
                yield table

        _write_tables(tables(), self.schema, merged)
        sync(merged)
        (self.folder / _MERGED).touch()
        os.replace(merged, self.output)
        self.clear()
        return counts

    def clear(self) -> None:
        """The parts first: what a kill leaves says that they were merged, and under which settings they were written."""
        self._remove_parts()
        (self.folder / "settings.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _remove_parts(self) -> None:
        for part in self.done():
            self._path(part).unlink()

    def _path(self, part: int) -> Path:
        return self.folder / f"part-{part:06d}.parquet"


def _write_tables(tables: Iterator[pa.Table], schema: pa.Schema, path: Path) -> None:
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        csv_writer = CsvWriter(file) if path.suffix == ".csv" else None
        for table in tables:
            if csv_writer:
                csv_writer.write(table_rows(table))
            else:
                write_json_lines(table_rows(table), file)
