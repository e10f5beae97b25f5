"""`scripts.predict --ray`: the rows of one machine, each picture once, whatever is lost meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.predict import main, read_arguments
from tests.support.faces_on_disk import as_jpeg, write_archive, write_folder
from tests.support.made_up_faces import draw_face
from tests.support.picture_server import PictureServer
from tests.support.tiny_model import save_tiny_model


pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
from tests.support.ray_machines import Machines, machines


pytestmark = pytest.mark.slow

FACES = {f"{index:02d}.jpg": as_jpeg(draw_face(30, 0, seed=index)) for index in range(12)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny_model(folder, min_face_pixels=8)
    return folder


@pytest.fixture(scope="module")
def two_machines() -> Iterator[Machines]:
    with machines() as started:
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with PictureServer(next(iter(FACES.values()))) as server:
        yield server


def predict(*arguments: object) -> None:
    main(read_arguments([str(argument) for argument in arguments]))


def rows_of(output: Path) -> list[dict]:
    rows = pq.read_table(output).to_pylist()
    return sorted(rows, key=lambda row: (row["picture"], row["face"] or 0))


@pytest.fixture
def mixed_inputs(tmp_path: Path) -> list[Path]:
    """A folder with a file that is no picture, an archive, and a table, named relative to the working directory."""
    write_folder(tmp_path / "photos", {**FACES, "broken.jpg": b"not a picture", "notes.txt": b""})
    write_archive(tmp_path / "more.zip", FACES.items())
    pq.write_table(pa.table({"image": list(FACES.values())}), tmp_path / "table.parquet")
    return [Path("photos"), Path("more.zip"), Path("table.parquet")]


def test_the_rows_of_one_machine(two_machines, model, mixed_inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [*mixed_inputs, "--model", model, "--crops"]
    predict(*options, "--output", "alone.parquet")
    predict(*options, "--output", "together", "--part-size", 5, "--ray", "auto")
    alone, together = rows_of(tmp_path / "alone.parquet"), rows_of(tmp_path / "together")
    assert pq.read_schema(tmp_path / "alone.parquet") == pq.read_schema(tmp_path / "together" / "part-000000.parquet")
    assert len(together) == 3 * len(FACES) + 1
    for row, expected in zip(together, alone, strict=True):
        assert row == pytest.approx(expected) if row["error"] is None else row == expected
