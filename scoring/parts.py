"""Results in parts beside the output: what is written is whole, what was done is known after any kill."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoring.rows import CsvWriter, table_rows, write_json_lines
from trainer.whole_files import fill_whole, sync, write_whole


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
