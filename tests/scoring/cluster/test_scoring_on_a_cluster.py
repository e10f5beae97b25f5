"""`scripts.predict --ray`: the rows of one machine, each picture once, whatever is lost meanwhile."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage.data import astronaut

from model.errors import AgeGenderError
from scoring.storage import Place, StorageError
from scripts.predict import main, read_arguments
from tests.support.faces_on_disk import as_jpeg, write_archive, write_folder
from tests.support.made_up_faces import draw_face
from tests.support.picture_server import PictureServer
from tests.support.s3_server import S3Server, s3_server
from tests.support.small_disk import on_a_disk_of
from tests.support.tiny_model import save_tiny_model


pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
from scoring.cluster.run import CRASHED
from tests.support.ray_machines import Machines, machines


pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SECONDS_TO_WAIT = 300  # a loaded machine takes long
FACES = {f"{index:02d}.jpg": as_jpeg(draw_face(30, 0, seed=index)) for index in range(12)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny_model(folder, min_face_pixels=8)
    return folder


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def two_machines(s3: S3Server) -> Iterator[Machines]:
    """Started with the credentials of `s3` in their environment."""
    with machines() as started:
        yield started


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer(next(iter(FACES.values()))) as server:
        yield server


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "faces", FACES)


def predict(*arguments: object) -> None:
    main(read_arguments([str(argument) for argument in arguments]))


def listed(folder: Path, *names: str) -> Path:
    """A list file of all faces with these URLs in their midst."""
    paths = [str(path) for path in sorted((folder / "faces").iterdir())]
    path = folder / "list.txt"
    path.write_text("\n".join([*paths[:6], *names, *paths[6:]]) + "\n")
    return path


def rows_of(output: Path | str) -> list[dict]:
    rows = pq.read_table(output).to_pylist()
    return sorted(rows, key=lambda row: (row["picture"], row["face"] or 0))


def wait_until(happens: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_rows_of_one_machine(two_machines, model, faces, tmp_path, monkeypatch):
    """From a folder with a file that is no picture, an archive, a table and a bucket, into a bucket."""
    write_folder(faces, {"broken.jpg": b"not a picture", "notes.txt": b""})
    write_archive(tmp_path / "more.zip", FACES.items())
    pq.write_table(pa.table({"image": list(FACES.values())}), tmp_path / "table.parquet")
    for name, content in FACES.items():
        Place(f"s3://pictures/photos/{name}").write(lambda file, content=content: file.write(content))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(astronaut()).save(faces / "portrait.jpg")
    inputs = ["faces", "more.zip", "table.parquet", "s3://pictures/photos"]
    predict(*inputs, "--model", model, "--output", "alone.parquet")
    predict(*inputs, "--model", model, "--output", "s3://pictures/together", "--part-size", 7, "--ray", "auto")
    alone, together = rows_of("alone.parquet"), rows_of("s3://pictures/together")
    assert len(together) == 4 * len(FACES) + 2
    assert sum(row["error"] is not None for row in together) == sum(row["age"] is not None for row in together) == 1
    for row, expected in zip(together, alone, strict=True):
        assert row.keys() == expected.keys()
        for column, value in row.items():
            assert value == pytest.approx(expected[column]), column
    assert pq.read_schema("alone.parquet") == pq.read_table("s3://pictures/together").schema


def test_a_worker_and_a_machine_are_lost(two_machines, server, model, faces, tmp_path, monkeypatch):
    """A worker is killed in mid-task. A machine is lost while it reads a picture, and another one joins."""
    monkeypatch.chdir(tmp_path)  # where no worker runs
    source = listed(tmp_path, server.url("kill-once.jpg"), server.url("held.jpg"))
    with ThreadPoolExecutor(1) as thread:
        options = ["--model", model, "--crops", "--output", "out", "--part-size", 4, "--ray", "auto"]
        scoring = thread.submit(predict, source, *options)
        wait_until(lambda: server.holding.is_set() or scoring.done())
        two_machines.lose(server.asker)
        server.released.set()
        two_machines.add()
        scoring.result()
    rows = rows_of(tmp_path / "out")
    assert server.ended == ["/kill-once.jpg"]
    assert [row["picture"] for row in rows] == list(range(len(FACES) + 2))
    assert all(row["age"] is not None for row in rows)


def test_a_picture_that_crashes_the_decoder_has_a_row(two_machines, server, model, faces, tmp_path):
    source = listed(tmp_path, server.url("deadly.jpg"))
    predict(source, "--model", model, "--crops", "--output", tmp_path / "out", "--part-size", 4, "--ray", "auto")
    rows = rows_of(tmp_path / "out")
    assert [row["picture"] for row in rows] == list(range(len(FACES) + 1))
    assert [row["error"] for row in rows] == [None] * 6 + [CRASHED] + [None] * 6
    assert len(server.ended) == 4  # twice with its part, twice alone


def test_the_command_is_killed_and_started_again(two_machines, server, model, faces, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [listed(tmp_path, server.url("held.jpg")), "--model", model, "--crops", "--output", output]
    arguments = [*map(str, arguments), "--part-size", "4", "--ray"]
    command = [sys.executable, "-m", "scripts.predict", *arguments, two_machines.cluster.address]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        wait_until(lambda: server.holding.is_set() or process.poll() is not None)
        wait_until(lambda: list(output.glob("part-*.parquet")) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGKILL)
    server.released.set()
    kept = {path: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert 1 <= len(kept) < 4

    with pytest.raises(AgeGenderError, match="a run with other settings: detect, pictures per part"):
        predict(*[one for one in arguments if one not in ("--crops", "--part-size", "4")], "auto")
    predict(*arguments, "auto")
    assert [row["picture"] for row in rows_of(output)] == list(range(len(FACES) + 1))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    capsys.readouterr()
    predict(*arguments, "auto")
    assert "complete, with 13 pictures. This start scored 0 of them" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "50"], r"Expected a cluster with at least 50 CPU \(it has 2\)"),
        (["--device", "cuda"], r"at least 1 GPU \(it has 0\)"),
        (["--output", "{not_empty}"], "is not empty and holds no run"),
        (["--output", "s3://nowhere/faces"], r"s3://nowhere/faces/\S+ cannot be written: .*bucket does not exist"),
    ],
)
def test_what_the_cluster_cannot_do(two_machines, model, faces, tmp_path, options: list[str], message: str):
    options = [option.format(not_empty=faces) for option in options]
    with pytest.raises(AgeGenderError, match=message):
        predict(faces, "--model", model, "--output", tmp_path / "out", "--ray", "auto", *options)


def test_without_credentials(two_machines, s3, model, faces):
    """Last of those with `s3`, which refuses everybody from here on."""
    s3.check_credentials()
    with pytest.raises(StorageError, match=r"^s3://pictures/more cannot be .* Are its credentials set\?$"):
        predict(faces, "--model", model, "--output", "s3://pictures/more", "--ray", "auto")


def test_a_full_disk(model, faces, tmp_path):
    """The run fails with one line, and the same command completes it once there is room."""
    script = f"""
        env -u AWS_ENDPOINT_URL {sys.executable} -m tests.support.ray_on_a_full_disk {tmp_path / "small" / "disk"} \\
            {faces} --model {model} --crops --part-size 1
    """
    (tmp_path / "small").mkdir()
    done = on_a_disk_of("60k", tmp_path / "small", script)
    assert done.returncode == 0, done.stderr
    assert "cannot be written: [Errno 28]" in done.stdout
    assert "complete, with 12 pictures" in done.stdout
