"""Pictures in stores, scored as those on a disk are: S3 on loopback, and the Hub's own file system."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from scoring.inputs import InputSummary, all_entries, open_sources
from scoring.scorer import read_entries
from scoring.sources import InputError
from scoring.storage import Place, StorageError, is_remote
from tests.scoring.test_scoring import FILES
from tests.support.faces_on_disk import write_folder
from tests.support.s3_server import S3Server, s3_server


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """The FILES of the scoring tests, a hidden file and a table, in s3://pictures/photos."""
    with s3_server() as server:
        photos = Place("s3://pictures/photos")
        for name, content in {**FILES, "._a.jpg": b"", "notes.txt": b"not looked at"}.items():
            photos.child(name).write(lambda file, content=content: file.write(content))
        table = pa.table({"image": list(FILES.values())})
        photos.child("tables/faces.parquet").write(lambda file: pq.write_table(table, file))
        yield server


def test_what_is_an_address():
    assert all(map(is_remote, ("s3://bucket/photos", "gs://bucket", "hf://datasets/user/faces", "file:///photos")))
    assert not any(map(is_remote, ("photos/a.jpg", "https://example.org/a.jpg", "/s3://x", "C://photos")))


def read(name: str) -> dict[str, object]:
    """{entry: content or problem}, which must be as many as were counted."""
    sources = open_sources([name])
    pictures = list(read_entries(all_entries(sources)))
    assert InputSummary.of(sources).pictures == len(pictures)
    return {picture.name: picture.problem or picture.content for picture in pictures}


def test_a_folder_is_in_the_order_of_one_on_a_disk(s3, tmp_path):
    write_folder(tmp_path / "photos", FILES)
    on_disk = [os.path.relpath(name, tmp_path) for name in read(str(tmp_path / "photos"))]
    found = read("s3://pictures/photos/")
    assert list(found) == [f"s3://pictures/{name}" for name in on_disk]
    assert list(found.values()) == [FILES[name.removeprefix("photos/")] for name in on_disk]
    [source] = open_sources(["s3://pictures/photos"])
    assert source.skipped() == {"hidden file": 1, ".txt": 1, ".parquet": 1}


def test_patterns_tables_and_single_pictures(s3):
    assert list(read("s3://pictures/photos/b/*.jpg")) == [
        f"s3://pictures/photos/b/{name}.jpg" for name in ("one", "two")
    ]
    assert len(read("s3://pictures/photos/**/*.jpg")) == 4
    rows = read("s3://pictures/**/*.parquet")
    assert list(rows) == [f"s3://pictures/photos/tables/faces.parquet#{row}" for row in range(4)]
    assert list(rows.values()) == list(FILES.values())
    assert list(read("s3://pictures/photos/a.jpg").values()) == [FILES["a.jpg"]]
    assert "NoSuchKey" in str(read("s3://pictures/gone.jpg")) or "Path does not exist" in str(
        read("s3://pictures/gone.jpg")
    )


def test_what_changes_the_input_changes_its_signature(s3):
    before = InputSummary.of(open_sources(["s3://pictures/photos"])).signature
    assert InputSummary.of(open_sources(["s3://pictures/photos"])).signature == before
    Place("s3://pictures/photos/a.jpg").write(lambda file: file.write(FILES["a.jpg"] + b"more"))
    assert InputSummary.of(open_sources(["s3://pictures/photos"])).signature != before
    Place("s3://pictures/photos/a.jpg").write(lambda file: file.write(FILES["a.jpg"]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "s3://pictures/nowhere",
            "Expected a folder, pictures or .parquet files at s3://pictures/nowhere, found nothing",
        ),
        ("s3://pictures/photos/notes.txt", "found another kind of file"),
        ("s3://pictures/*.parquet", r"The pattern s3://pictures/\*\.parquet matches no file"),
        ("nonsense://pictures/photos", "nonsense://pictures/photos cannot be read: .*rotocol"),
    ],
)
def test_what_is_not_there(s3, name: str, message: str):
    with pytest.raises((InputError, StorageError), match=message):
        open_sources([name])


def test_without_credentials(s3):
    """Last, since the server refuses everybody from here on."""
    s3.check_credentials()
    with pytest.raises(StorageError, match=r"s3://pictures/photos cannot be read: .*\. Are its credentials set\?$"):
        open_sources(["s3://pictures/photos"])


@pytest.mark.slow
def test_tables_of_a_dataset_on_the_hub(hub, tmp_path, saved_tiny_model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # read from the environment at import
    pq.write_table(pa.table({"image": list(FILES.values())}), tmp_path / "train.parquet")
    api = HfApi(hub.url, token=hub.token)
    api.create_repo("user/faces", repo_type="dataset")
    content = (tmp_path / "train.parquet").read_bytes()
    api.upload_file(
        path_or_fileobj=content, path_in_repo="data/train.parquet", repo_id="user/faces", repo_type="dataset"
    )
    command = [sys.executable, "-m", "scripts.predict", "hf://datasets/user/faces/**/*.parquet", "--crops"]
    command += ["--model", str(saved_tiny_model), "--output", str(tmp_path / "faces.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=hub.env, check=False)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "faces.parquet")
    assert table["file"].to_pylist() == [f"hf://datasets/user/faces/data/train.parquet#{row}" for row in range(4)]
    assert table["error"].null_count == 4
