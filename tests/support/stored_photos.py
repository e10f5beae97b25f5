"""Pictures in a store, as the tests of each kind of store write and read them."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.inputs import InputSummary, all_entries, open_sources
from scoring.scorer import read_entries
from scoring.storage import Place


def write_photos(address: str, files: Mapping[str, bytes]) -> None:
    """The files, a hidden one, one that is no picture, and a table of their contents."""
    photos = Place(address)
    for name, content in {**files, "._a.jpg": b"", "notes.txt": b"not looked at"}.items():
        photos.child(name).write(lambda file, content=content: file.write(content))
    table = pa.table({"image": list(files.values())})
    photos.child("tables/faces.parquet").write(lambda file: pq.write_table(table, file))


def read_photos(name: str) -> dict[str, object]:
    """{entry: content or problem}, which must be as many as were counted."""
    sources = open_sources([name])
    pictures = list(read_entries(all_entries(sources)))
    assert InputSummary.of(sources).pictures == len(pictures)
    return {picture.name: picture.problem or picture.content for picture in pictures}
