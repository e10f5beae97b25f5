"""Pictures in a column of a parquet file; `scoring.hub_dataset` reads sets of the Hub."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model.dataset_inputs import file_of_set
from model.errors import AgeGenderError
from scoring.sources import Content, Entry, InputError, Source, failing, version_of
from scoring.storage import Place, StoreFaultError, version_in
from trainer.data.picture_files import as_text
from trainer.data.table_limits import check_footer, check_parquet, check_row_group, read_at


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
        """Why no row can be read, if so.

        Raises:
            StoreFaultError: the store of the file fails.
        """
        return self._count_and_problem[1]

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}|{self.column}"

    @cached_property
    def _count_and_problem(self) -> tuple[int, str | None]:
        try:
            with self._open() as file:
                check_column(self.column, file.schema_arrow.names, str(self.path))
                self._check(file.metadata)
                return file.metadata.num_rows, None
        except StoreFaultError:
            raise
        except (pa.ArrowException, OSError) as error:
            return 1, f"{self.path} cannot be read as a parquet file ({error}): is the download complete?"
        except AgeGenderError as error:
            return 1, str(error)

    def _open(self) -> AbstractContextManager[pq.ParquetFile]:
        return pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20)  # do not read a whole row group

    def _check(self, metadata: pq.FileMetaData) -> None:
        check_parquet(Path(self.path), metadata)

    def _check_row_group(self, metadata: pq.FileMetaData, group: int) -> None:
        """Before it is read; `_check` has looked at all of a file on a disk."""

    def _folders(self) -> tuple[Path, ...]:
        """Where pictures may lie that rows name by their path."""
        return (Path(self.path).parent,)


class RemoteParquet(ParquetFile):
    """One file in a store, by its address. Its rows hold encoded pictures and no paths."""

    def signature(self) -> str:
        return f"{self.path}|{version_in(self._place.info())}|{self.column}"

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with self._place.open() as file:  # pyarrow closes only what it has opened itself
            yield pq.ParquetFile(file, pre_buffer=False, buffer_size=8 * 2**20)

    def _check(self, metadata: pq.FileMetaData) -> None:
        check_footer(str(self.path), metadata, self._place.size())

    def _check_row_group(self, metadata: pq.FileMetaData, group: int) -> None:
        with self._place.open() as file:
            size = file.size()
            most = check_footer(str(self.path), metadata, size)
            check_row_group(str(self.path), partial(read_at, file), metadata.row_group(group), size, most)

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
        return content_of(self._rows[index - self._start].as_py(), self._folders)


def check_column(column: str, columns: list[str], where: str) -> None:
    if column not in columns:
        raise InputError(
            f"{where} has no column {column!r}, only {', '.join(columns)}. Name the column of pictures with --image-column."
        )


def content_of(value: dict | bytes | str | None, folders: tuple[Path, ...]) -> Content:
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
