"""Pictures in Google's store, on loopback: listed, read and written as those on a disk are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoring import storage
from scoring.inputs import InputSummary, open_sources
from scoring.sources import InputError
from scoring.storage import Place, StorageError, StoreFaultError
from tests.scoring.test_scoring import FILES
from tests.support.faces_on_disk import write_folder
from tests.support.gcs_server import gcs_server
from tests.support.stored_photos import read_photos, write_photos


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    """The FILES of the scoring tests and a table, in gs://pictures/photos."""
    with gcs_server() as address:
        write_photos("gs://pictures/photos", FILES)
        yield address


def test_a_folder_is_in_the_order_of_one_on_a_disk(tmp_path: Path):
    """Its folders have no objects of their own, as where `gcloud storage cp` has written them."""
    write_folder(tmp_path / "photos", FILES)
    on_disk = [os.path.relpath(name, tmp_path) for name in read_photos(str(tmp_path / "photos"))]
    found = read_photos("gs://pictures/photos/")
    assert list(found) == [f"gs://pictures/{name}" for name in on_disk]
    assert list(found.values()) == [FILES[name.removeprefix("photos/")] for name in on_disk]


def test_patterns_tables_and_single_pictures():
    assert list(read_photos("gs://pictures/photos/b/*.jpg")) == [
        f"gs://pictures/photos/b/{n}.jpg" for n in ("one", "two")
    ]
    rows = read_photos("gs://pictures/**/*.parquet")
    assert list(rows) == [f"gs://pictures/photos/tables/faces.parquet#{row}" for row in range(4)]
    assert list(rows.values()) == list(FILES.values())
    assert list(read_photos("gs://pictures/photos/a.jpg").values()) == [FILES["a.jpg"]]


def test_what_changes_the_input_changes_its_signature():
    before = InputSummary.of(open_sources(["gs://pictures/photos"])).signature
    Place("gs://pictures/photos/a.jpg").write(lambda file: file.write(FILES["a.jpg"] + b"more"))
    assert InputSummary.of(open_sources(["gs://pictures/photos"])).signature != before
    Place("gs://pictures/photos/a.jpg").write(lambda file: file.write(FILES["a.jpg"]))


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="found nothing"):
        open_sources(["gs://pictures/nowhere"])
    monkeypatch.setattr(storage, "PAUSES_SECONDS", ())
    with pytest.raises(StorageError, match=r"^gs://nowhere/a cannot be written: "):
        Place("gs://nowhere/a").write(lambda file: file.write(b""))


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    """Google's client itself tries again for 15 minutes, unless it is told how long."""
    monkeypatch.setattr(storage, "PAUSES_SECONDS", ())
    monkeypatch.setattr(storage, "SECONDS_OF_GOOGLES_CLIENT", storage.SECONDS_OF_GOOGLES_CLIENT / 30)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    storage._file_system.cache_clear()
    with pytest.raises(StoreFaultError, match=r"^gs://pictures/photos cannot be read: "):
        open_sources(["gs://pictures/photos"])
    storage._file_system.cache_clear()
