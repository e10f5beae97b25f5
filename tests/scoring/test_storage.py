"""Pictures in stores, scored as those on a disk are: S3 on loopback, and the Hub's own file system."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from scoring import storage
from scoring.inputs import InputSummary, all_entries, open_sources
from scoring.run import ScoringOptions, score_to_file
from scoring.scorer import read_entries
from scoring.sources import InputError
from scoring.storage import Place, StorageError, StoreFaultError, is_remote
from tests.scoring.test_scoring import FILES
from tests.support.faces_on_disk import write_folder
from tests.support.s3_server import S3Server, s3_server
from tests.support.stored_photos import read_photos, write_photos


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """The FILES of the scoring tests, a hidden file and a table, in s3://pictures/photos."""
    with s3_server() as server:
        write_photos("s3://pictures/photos", FILES)
        yield server


def test_what_is_an_address():
    assert all(map(is_remote, ("s3://bucket/photos", "gs://bucket", "hf://datasets/user/faces", "file:///photos")))
    assert not any(map(is_remote, ("photos/a.jpg", "https://example.org/a.jpg", "/s3://x", "C://photos")))


def test_a_folder_is_in_the_order_of_one_on_a_disk(s3, tmp_path):
    write_folder(tmp_path / "photos", FILES)
    on_disk = [os.path.relpath(name, tmp_path) for name in read_photos(str(tmp_path / "photos"))]
    found = read_photos("s3://pictures/photos/")
    assert list(found) == [f"s3://pictures/{name}" for name in on_disk]
    assert list(found.values()) == [FILES[name.removeprefix("photos/")] for name in on_disk]
    [source] = open_sources(["s3://pictures/photos"])
    assert source.skipped() == {"hidden file": 1, ".txt": 1, ".parquet": 1}


def test_patterns_tables_and_single_pictures(s3):
    assert list(read_photos("s3://pictures/photos/b/*.jpg")) == [
        f"s3://pictures/photos/b/{name}.jpg" for name in ("one", "two")
    ]
    assert len(read_photos("s3://pictures/photos/**/*.jpg")) == 4
    rows = read_photos("s3://pictures/**/*.parquet")
    assert list(rows) == [f"s3://pictures/photos/tables/faces.parquet#{row}" for row in range(4)]
    assert list(rows.values()) == list(FILES.values())
    assert list(read_photos("s3://pictures/photos/a.jpg").values()) == [FILES["a.jpg"]]
    assert "NoSuchKey" in str(read_photos("s3://pictures/gone.jpg")) or "Path does not exist" in str(
        read_photos("s3://pictures/gone.jpg")
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


@pytest.fixture
def faulty(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """It answers again after the test."""
    monkeypatch.setattr(storage, "PAUSES_SECONDS", (0.2, 0.4, 0.8))
    yield s3
    s3.allow_everybody()


@pytest.mark.parametrize("name", ["s3://pictures/photos/a.jpg", "s3://pictures/photos/tables/faces.parquet"])
def test_a_fault_is_no_problem_of_a_picture(faulty: S3Server, name: str):
    """Not one that could not be read any more: the store is asked again, and the run ends where that does not help."""
    sources = open_sources([name])
    expected = list(read_entries(all_entries(sources)))
    faulty.check_credentials()
    healed = threading.Timer(0.5, faulty.allow_everybody)
    healed.start()
    assert list(read_entries(all_entries(sources))) == expected
    healed.join()
    faulty.check_credentials()
    with pytest.raises(StoreFaultError, match=rf"^{name} cannot be read: .*\. Are its credentials set\?$"):
        list(read_entries(all_entries(sources)))


def test_a_file_that_is_gone_is_a_problem_of_its_picture(s3):
    [picture] = read_entries(all_entries(open_sources(["s3://pictures/photos/gone.jpg"])))
    assert picture.problem is not None


def test_a_run_that_a_fault_ended_resumes(faulty: S3Server, saved_tiny_model: Path, tmp_path: Path):
    """With a row that says what was read of each picture, and none that blames one."""
    photos = "s3://pictures/photos/**/*.jpg"
    options = ScoringOptions([photos], str(tmp_path / "faces.parquet"), str(saved_tiny_model), crops=True, part_size=1)
    requests_before_the_second_picture = 8
    faulty.check_credentials(after=requests_before_the_second_picture)
    with pytest.raises(StoreFaultError, match=r"Fix that, then start the same command again: it resumes\.$"):
        score_to_file(options)
    assert not (tmp_path / "faces.parquet").exists()
    faulty.allow_everybody()
    score_to_file(options)
    table = pq.read_table(tmp_path / "faces.parquet")
    assert table["error"].null_count == len(table) == 4


def test_patterns_follow_the_rules_of_those_on_a_disk(s3, tmp_path: Path):
    """Of hidden files, of lists, of the output, and of what changes the input."""
    files = {".secret/a.jpg": FILES["a.jpg"], "b.jpg": FILES["a.jpg"], "notes.txt": b"", "out/part-0.jpg": b"faces"}
    write_folder(tmp_path / "rules", files)
    for name, content in files.items():
        Place(f"s3://pictures/rules/{name}").write(lambda file, content=content: file.write(content))
    for pattern in ("*", ".secret/*.jpg", "*.txt"):
        results = []
        for root in (str(tmp_path), "s3://pictures"):
            try:
                sources = open_sources([f"{root}/rules/{pattern}"], output=f"{root}/rules/out")
            except InputError as error:
                results.append(str(error).replace(root, ""))
                continue
            names = [entry.name.removeprefix(root) for entry in all_entries(sources)]
            results.append((names, InputSummary.of(sources).skipped))
        assert results[0] == results[1], pattern
    sources = open_sources(["s3://pictures/rules/**"], output="s3://pictures/rules/out")
    assert [entry.name for entry in all_entries(sources)] == ["s3://pictures/rules/b.jpg"]
    assert InputSummary.of(sources).skipped == {"hidden file": 1}
    before = InputSummary.of(open_sources(["s3://pictures/rules/*.jpg"])).signature
    single = InputSummary.of(open_sources(["s3://pictures/rules/b.jpg"])).signature
    Place("s3://pictures/rules/b.jpg").write(lambda file: file.write(b"another"))
    assert InputSummary.of(open_sources(["s3://pictures/rules/*.jpg"])).signature != before
    assert InputSummary.of(open_sources(["s3://pictures/rules/b.jpg"])).signature != single


def test_a_table_is_closed_when_it_is_read(s3, monkeypatch: pytest.MonkeyPatch):
    opened = []
    open_place = Place.open
    monkeypatch.setattr(Place, "open", lambda place: opened.append(open_place(place)) or opened[-1])
    list(read_entries(all_entries(open_sources(["s3://pictures/photos/tables/faces.parquet"]))))
    assert opened
    assert all(file.closed for file in opened)


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
