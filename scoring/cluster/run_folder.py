"""The folder that a run on a cluster writes, on a shared disk or in a store: the work list, which the workers share out among
themselves, and one parquet file of answers for each part of it.

    faces/_settings.json            what the answers depend on; written when the work list is complete
    faces/_input/list-000000.parquet ...
    faces/part-000000.parquet ...   whole, or not there

The work list numbers all pictures of the run and cuts them into parts, one row group a part, so that neither the command nor a
worker holds it as a whole, and a run that resumes numbers the pictures as before without listing the input again.

A part's file is named after its part. So a part that two workers score, as after the loss of a machine, is written twice to
one name with the same rows, and a run resumes with the parts that have no file. Readers of parquet ignore what begins with
an underscore.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.output import OutputError, check_same_settings, part_name, part_numbers
from scoring.scorer import Picture, read_entries
from scoring.sources import Archive, Content, Entry, Files, InputError, Source, content_at, failing
from scoring.storage import Place, is_remote
from scoring.tables import ParquetFile, RemoteParquet
from trainer.data.picture_files import as_text


PARTS_PER_FILE = 100  # each worker that reads a part reads the footer of its file too
# picture: its place in the input, from 0. name: what the results call it. location: path or address, in the file system's
# own bytes. item: place in a table or archive. problem: why it cannot be read.
SCHEMA = pa.schema(
    {
        "picture": pa.int64(),
        "name": pa.string(),
        "location": pa.binary(),
        "item": pa.int64(),
        "problem": pa.string(),
    }
)


@dataclass(frozen=True)
class OutputFolder:
    """The folder by its address. Every method raises StorageError if it cannot be read or written."""

    address: str

    @property
    def settings(self) -> Place:
        return Place(self.address).child("_settings.json")

    @property
    def work_list(self) -> Place:
        return Place(self.address).child("_input")

    def holds_run(self) -> bool:
        """Whether the pictures of a run are listed, which resumes."""
        return self.settings.address.rpartition("/")[2] in self._names()

    def begin(self, settings: Mapping[str, Any], list_pictures: Callable[[], int]) -> int:
        """Start a new run, or resume one that was started with the same settings.

        Args:
            settings: what the answers depend on.
            list_pictures: writes the work list and returns the number of pictures; called for a new run only.

        Returns:
            The number of pictures of the run.

        Raises:
            OutputError: the folder holds something else, or a run with other settings.
        """
        if self.holds_run():
            started = json.loads(self.settings.read())
            check_same_settings(self.address, settings, started)
            return started["pictures"]
        if self._names() - {"_input"}:  # which a kill leaves while the input is listed
            raise OutputError(
                f"{self.address} is not empty and holds no run. Choose another --output, or empty it first."
            )
        pictures = list_pictures()
        content = json.dumps({**settings, "pictures": pictures}, indent=1) + "\n"
        self.settings.write(lambda file: file.write(content.encode()))
        return pictures

    def _names(self) -> set[str]:
        return {info.base_name for info in Place(self.address).list_folder()}

    def done(self) -> set[int]:
        """The numbers of the parts that are written."""
        return part_numbers(self._names())

    def write(self, part: int, table: pa.Table) -> None:
        place = Place(self.address).child(part_name(part))
        place.write(partial(pq.write_table, table, compression="zstd"))


def check_can_be_shared(sources: Iterable[Source]) -> None:
    """
    Raises:
        InputError: a source is a video or a dataset by its id.
    """
    for source in sources:
        if not isinstance(source, (Files, ParquetFile, Archive)):
            raise InputError(
                f"{type(source).__name__} cannot be shared out by --ray: score videos without it, and name the parquet files "
                "of a dataset on the Hub, as hf://datasets/user/name/**/*.parquet."
            )


def write_work_list(sources: Sequence[Source], folder: Place, part_size: int) -> tuple[int, Counter[str]]:
    """List the pictures of all sources in `folder`, with as many rows in memory as one file has.

    Returns:
        The number of pictures, and {kind: number of files} that were skipped, see `Source.skipped`.

    Raises:
        InputError: there is no picture, or a source cannot be read.
        StorageError: a store cannot be read or written.
    """
    pictures, skipped = count(), Counter[str]()
    rows = ({"picture": next(pictures)} | row for source in sources for row in _rows(source, skipped))
    for number in count():
        table = pa.Table.from_pylist(list(islice(rows, PARTS_PER_FILE * part_size)), SCHEMA)
        if not len(table):
            return next(pictures), skipped
        write = partial(pq.write_table, table, row_group_size=part_size, compression="zstd")
        _file(folder, number).write(write)
    raise AssertionError("counts without end")


def read_rows(folder: Place, part: int) -> list[dict[str, Any]]:
    """The rows of one part.

    Raises:
        StorageError: they cannot be read.
    """
    with _file(folder, part // PARTS_PER_FILE).open() as file:
        return pq.ParquetFile(file).read_row_group(part % PARTS_PER_FILE).to_pylist()


def read_pictures(rows: Iterable[dict[str, Any]], image_column: str) -> Iterator[Picture]:
    """Read the pictures of these rows, in order; one that cannot be read has a problem.

    Args:
        image_column: of tables.

    Raises:
        StoreFaultError: a store fails.
    """
    for listing, of_listing in groupby(rows, _listing):
        if listing is None:
            yield from _of_files(of_listing)
        else:
            yield from _of_container(os.fsdecode(listing[0]), list(of_listing), image_column)


def _listing(row: dict[str, Any]) -> tuple[bytes, int] | None:
    """The table or archive of a row, and where its listing begins: an input may name one twice. None for a file."""
    return None if row["item"] is None else (row["location"], row["picture"] - row["item"])


def _rows(source: Source, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    if isinstance(source, Files):
        for found in source.walk():
            if found.skipped:
                skipped[found.skipped] += 1
            else:
                problem = str(found.problem) if found.problem else None
                yield {"name": as_text(found.path), "location": _location(found.path), "problem": problem}
        return
    assert isinstance(source, (ParquetFile, Archive))
    path = str(source.path)
    for item in range(source.count()):
        yield {"name": as_text(path), "location": _location(path), "item": item}
    skipped.update(source.skipped())


def _location(path: str) -> bytes:
    """Absolute, because the workers run in other folders."""
    is_address = is_remote(path) or path.startswith(("http://", "https://"))
    return os.fsencode(path if is_address else os.path.abspath(path))


def _of_files(rows: Iterable[dict[str, Any]]) -> Iterator[Picture]:
    for row in rows:
        read: Callable[[], Content] = partial(content_at, os.fsdecode(row["location"]))
        if row["problem"]:
            read = failing(InputError(row["problem"]))
        [picture] = read_entries([Entry(row["name"], read)])
        yield replace(picture, index=row["picture"])


def _of_container(path: str, rows: list[dict[str, Any]], image_column: str) -> Iterator[Picture]:
    """Pictures of one table or archive, named as if it had been opened by the name that the user gave."""
    source: Source
    if path.lower().endswith(".parquet"):
        source = (RemoteParquet if is_remote(path) else ParquetFile)(path, image_column)
        if source.problem:
            yield from (Picture(row["picture"], row["name"], None, None, source.problem) for row in rows)
            return
    else:
        source = Archive(Path(path))
    wanted = {row["item"]: row for row in rows}
    entries = islice(source, max(wanted) + 1)
    for picture in read_entries(entries, wanted.__contains__):
        row = wanted.pop(picture.index)
        yield replace(picture, index=row["picture"], name=row["name"] + picture.name[len(as_text(path)) :])
    for row in wanted.values():  # the file has become shorter since it was listed
        yield Picture(row["picture"], row["name"], None, None, f"{row['name']} has no picture {row['item']} any more.")


def _file(folder: Place, number: int) -> Place:
    return folder.child(f"list-{number:06d}.parquet")
