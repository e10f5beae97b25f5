"""The numbered list of a run's pictures; and what each machine must see of a run."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.run import ScoringOptions
from scoring.sources import InputError
from scoring.storage import Place
from tests.support.faces_on_disk import as_jpeg, write_archive, write_folder
from tests.support.made_up_faces import draw_face


pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
from scoring.cluster.run import _computes_in_bf16, _inputs_to_see, _list_pictures, _what_is_missing
from scoring.cluster.run_folder import OutputFolder, read_pictures, read_rows, write_work_list


FACES = {f"{index}.jpg": as_jpeg(draw_face(30, 0, seed=index)) for index in range(3)}


def test_a_table_and_an_archive_that_are_named_twice_are_read_twice(tmp_path: Path):
    write_archive(tmp_path / "faces.zip", FACES.items())
    pq.write_table(pa.table({"image": list(FACES.values())}), tmp_path / "faces.parquet")
    inputs = [str(tmp_path / name) for name in ("faces.zip", "faces.zip", "faces.parquet", "faces.parquet")]
    sources = ScoringOptions(inputs=inputs, model="model").open_sources()
    folder = Place(str(tmp_path / "list"))
    count, _ = write_work_list(sources, folder, part_size=12)
    pictures = list(read_pictures(read_rows(folder, 0), "image"))
    assert [picture.index for picture in pictures] == list(range(count)) == list(range(12))
    assert [picture.content for picture in pictures] == 4 * list(FACES.values())


def test_a_table_that_is_damaged_after_it_was_listed_says_so_in_each_row(tmp_path: Path):
    pq.write_table(pa.table({"image": list(FACES.values())}), tmp_path / "faces.parquet")
    folder = Place(str(tmp_path / "list"))
    sources = ScoringOptions(inputs=[str(tmp_path / "faces.parquet")], model="model").open_sources()
    write_work_list(sources, folder, part_size=12)
    (tmp_path / "faces.parquet").write_bytes(b"damaged")
    pictures = list(read_pictures(read_rows(folder, 0), "image"))
    assert [picture.index for picture in pictures] == list(range(len(FACES)))
    for picture in pictures:
        assert "cannot be read as a parquet file" in (picture.problem or "")


def test_what_is_skipped_is_said_beside_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photos = write_folder(tmp_path / "photos", {**FACES, "notes.txt": b""})
    output = OutputFolder(str(tmp_path / "faces"))
    assert _list_pictures(ScoringOptions(inputs=[str(photos)]).open_sources(), output, part_size=2) == len(FACES)
    assert capsys.readouterr() == ("", "Skipped in folders and archives: 1 .txt.\n")
    for picture in FACES:
        (photos / picture).unlink()
    with pytest.raises(InputError, match=r"found none\. Skipped in folders and archives: 1 \.txt\.$"):
        _list_pictures(ScoringOptions(inputs=[str(photos)]).open_sources(), output, part_size=2)


def test_gpus_of_a_cluster_compute_in_bf16_where_that_is_asked_for():
    """No cluster is asked: a task that asks for no GPU sees none."""
    for bf16, expected in ((None, False), (False, False), (True, True)):
        assert _computes_in_bf16(ScoringOptions(["photos"], bf16=bf16), "cuda") == expected


def test_what_each_machine_must_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    inputs = ["photos", "photos/*.jpg", "s3://bucket/photos", "s3://bucket/*.parquet", "https://example.org/a.jpg"]
    assert _inputs_to_see(ScoringOptions(inputs=inputs, model="model")) == [
        str(tmp_path / "photos"),
        "s3://bucket/photos",
    ]
    assert _what_is_missing([str(tmp_path / "photos")]) == ""
    assert "elsewhere is not there. Put it on a disk that all machines share" in _what_is_missing(["/elsewhere"])
