"""The folder that a run on a cluster writes, on a shared disk or in a store: one parquet file for each part of the input.

    faces/_settings.json            what the answers depend on; written when the work list is complete
    faces/_input/list-000000.parquet ...
    faces/part-000000.parquet ...   whole, or not there

A part's file is named after its part. So a part that two workers score, as after the loss of a machine, is written twice to
one name with the same rows, and a run resumes with the parts that have no file. Readers of parquet ignore what begins with
an underscore.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.output import OutputError
from scoring.storage import Place


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
        names = {info.base_name for info in Place(self.address).list_folder()}
        if self.settings.address.rpartition("/")[2] in names:
            started = json.loads(self.settings.read())
            asked = json.loads(json.dumps(settings))
            changed = [name for name in asked if asked[name] != started.get(name)]
            if changed:
                raise OutputError(
                    f"{self.address} contains a run with another {', '.join(changed)}. Resume it with the same options, "
                    "choose another --output, or remove it to start again."
                )
            return started["pictures"]
        if names - {"_input"}:  # which a kill leaves while the input is listed
            raise OutputError(
                f"{self.address} is not empty and holds no run. Choose another --output, or empty it first."
            )
        pictures = list_pictures()
        content = json.dumps({**settings, "pictures": pictures}, indent=1) + "\n"
        self.settings.write(lambda file: file.write(content.encode()))
        return pictures

    def done(self) -> set[int]:
        """The numbers of the parts that are written."""
        infos = Place(self.address).list_folder()
        names = (re.fullmatch(r"part-(\d+)\.parquet", info.base_name) for info in infos)
        return {int(name[1]) for name in names if name}

    def write(self, part: int, table: pa.Table) -> None:
        place = Place(self.address).child(f"part-{part:06d}.parquet")
        place.write(partial(pq.write_table, table, compression="zstd"))
