"""Answers as the rows of a table, and tables as parquet, JSON lines or CSV."""

import csv
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

import pyarrow as pa

from scoring.scorer import Scored


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
