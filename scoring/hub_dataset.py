"""Pictures in a column of a dataset on the Hub. Alone in a module: `datasets` takes 40 MiB, which other sources do not need."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from datasets import DatasetDict, Image

from scoring.sources import Content, Entry, Source
from scoring.tables import check_column, content_of
from trainer.data.arguments import DataArguments
from trainer.data.own_pictures import folders_of_set
from trainer.data.sources import load_hub


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
            check_column(self.column, split.column_names, self.repo_id)
        pictures = {name: isinstance(split.features[self.column], Image) for name, split in splits.items()}
        return DatasetDict(
            {n: s.cast_column(self.column, Image(decode=False)) if pictures[n] else s for n, s in splits.items()}
        )


def _read_row(rows: Any, row: int, column: str, folders: tuple[Path, ...]) -> Content:
    return content_of(rows[row][column], folders)
