"""Pictures in a column of a table: a parquet file, or a dataset on the Hub."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, Image

from model.dataset_inputs import file_of_set
from model.errors import AgeGenderError
from scoring.sources import Content, Entry, InputError, Source, failing, version_of
from scoring.storage import Place
from trainer.data.arguments import DataArguments
from trainer.data.own_pictures import folders_of_set
from trainer.data.sources import as_text, load_hub
from trainer.data.table_limits import check_footer, check_parquet, check_row_group


ROWS_AT_ONCE = 32  # bounds memory: a row is a whole picture


@dataclass(frozen=True)
class ParquetFile(Source):
    """The rows of one file. The column holds encoded pictures, paths, or both as `datasets` writes them ({bytes, path}).

    The file is open only while it is read: an input may have more files than a process may hold open.
    """

    path: Path | str
    column: str

    def __iter__(self) -> Iterator[Entry]:
        if self.problem:  # the other files are still scored
            yield Entry(as_text(str(self.path)), failing(InputError(self.problem)))
            return
        row = 0
        with self._open() as file:
            for group in range(file.num_row_groups):
                reader = _RowGroup(file, group, self.column, self._folders(), self._check_row_group)
                for index in range(file.metadata.row_group(group).num_rows):
                    yield Entry(as_text(f"{self.path}#{row}"), partial(reader.read, index))
                    row += 1

    def count(self) -> int:
        return self._count_and_problem[0]

    @property
    def problem(self) -> str | None:
        """Why no row can be read, if so."""
        return self._count_and_problem[1]

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}|{self.column}"

    @cached_property
    def _count_and_problem(self) -> tuple[int, str | None]:
        try:
            with self._open() as file:
                _check_column(self.column, file.schema_arrow.names, str(self.path))
                self._check(file.metadata)
                return file.metadata.num_rows, None
        except (pa.ArrowException, OSError) as error:
            return 1, f"{self.path} cannot be read as a parquet file ({error}): is the download complete?"
        except AgeGenderError as error:
            return 1, str(error)

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20)  # do not read a whole row group

    def _check(self, metadata: pq.FileMetaData) -> None:
        check_parquet(Path(self.path), metadata)

    def _check_row_group(self, metadata: pq.FileMetaData, group: int) -> None:
        """Before it is read; `_check` has looked at all of a file on a disk."""

    def _folders(self) -> tuple[Path, ...]:
        """Where pictures may lie that rows name by their path."""
        return folders_of_set(str(self.path))


class RemoteParquet(ParquetFile):
    """One file in a store, by its address. Its rows hold encoded pictures and no paths."""

    def signature(self) -> str:
        info = self._place.info()
        return f"{self.path}|{info.size}|{info.mtime_ns}|{self.column}"

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._place.open(), pre_buffer=False, buffer_size=8 * 2**20)

    def _check(self, metadata: pq.FileMetaData) -> None:
        check_footer(str(self.path), metadata, self._place.info().size)

    def _check_row_group(self, metadata: pq.FileMetaData, group: int) -> None:
        size = self._place.info().size
        most = check_footer(str(self.path), metadata, size)
        with self._place.open() as file:

            def read_at(place: int, length: int) -> bytes:
                file.seek(place)
                return file.read(length)

            check_row_group(str(self.path), read_at, metadata.row_group(group), size, most)

    def _folders(self) -> tuple[Path, ...]:
        return ()

    @property
    def _place(self) -> Place:
        return Place(str(self.path))


class _RowGroup:
    """Reads a row group forwards, `ROWS_AT_ONCE` rows at a time, and nothing before the first row is wanted."""

    def __init__(
        self,
        file: pq.ParquetFile,
        group: int,
        column: str,
        folders: tuple[Path, ...],
        check: Callable[[pq.FileMetaData, int], None],
    ):
        """
        Args:
            folders: where pictures may lie that rows name by their path.
            check: raises an error if the row group claims too much.
        """
        self._folders = folders
        self._check = partial(check, file.metadata, group)
        self._open = partial(file.iter_batches, ROWS_AT_ONCE, row_groups=[group], columns=[column])
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._rows, self._start = pa.array([]), 0

    def read(self, index: int) -> Content:
        if self._batches is None:
            self._check()
            self._batches = self._open()
        while index >= self._start + len(self._rows):
            self._start, self._rows = self._start + len(self._rows), pa.array([])
            batch = next(self._batches, None)
            if batch is None:  # the reader ended at an error, which an earlier row reports
                raise InputError("the file is damaged before this row")
            self._rows = batch.column(0)
        return _content(self._rows[index - self._start].as_py(), self._folders)


@dataclass(frozen=True)
class HubDataset(Source):
    """All splits of a dataset on the Hub, sequentially, from the copy that `datasets` keeps in its cache.

    Raises:
        DatasetError: no such dataset, or no connection; when the pictures are counted or read.
        InputError: no such column.
    """

    repo_id: str
    column: str
    revision: str | None = None

    def __iter__(self) -> Iterator[Entry]:
        folders = folders_of_set(self.repo_id)
        for name, split in self._splits.items():
            pictures = split.select_columns([self.column])
            for row in range(len(split)):
                yield Entry(f"{self.repo_id}/{name}#{row}", partial(_read_row, pictures, row, self.column, folders))

    def count(self) -> int:
        return sum(map(len, self._splits.values()))

    def signature(self) -> str:
        # the URLs of the files on the Hub contain the commit
        files = sorted(file for split in self._splits.values() for file in split.info.download_checksums or ())
        return "|".join([self.repo_id, self.column, *map(str, self._splits.items()), *files])

    @cached_property
    def _splits(self) -> DatasetDict:
        splits = load_hub(DataArguments(dataset=self.repo_id, dataset_revision=self.revision))
        for split in splits.values():
            _check_column(self.column, split.column_names, self.repo_id)
        pictures = {name: isinstance(split.features[self.column], Image) for name, split in splits.items()}
        return DatasetDict(
            {n: s.cast_column(self.column, Image(decode=False)) if pictures[n] else s for n, s in splits.items()}
        )


def _read_row(rows: Any, row: int, column: str, folders: tuple[Path, ...]) -> Content:
    return _content(rows[row][column], folders)


def _check_column(column: str, columns: list[str], where: str) -> None:
    if column not in columns:
        raise InputError(
            f"{where} has no column {column!r}, only {', '.join(columns)}. Name the column of pictures with --image-column."
        )


def _content(value: dict | bytes | str | None, folders: tuple[Path, ...]) -> Content:
    """The picture in a row, or the path of a file of the set itself.

    Raises:
        InputError: the row names an address, or a file elsewhere: whoever wrote the table did not ask the user.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        path = file_of_set(value, folders)
        if path is None:
            raise InputError(
                "Expected an encoded picture in this row, or a path in the folder of the table; got an address or another "
                "path. Name what you trust in a .txt with a path or URL a line."
            )
        return str(path)
    if not isinstance(value, bytes):
        raise InputError(f"Expected an encoded picture or a path in this row, got {type(value).__name__}.")
    return value
