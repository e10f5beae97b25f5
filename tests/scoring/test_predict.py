"""`python -m scripts.predict`: any input that holds pictures, one row a face, and runs that are stopped."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from skimage.data import astronaut, coffee

from model.errors import AgeGenderError
from scoring.output import OutputError, Parts
from scripts.predict import main, read_arguments
from tests.support.made_up_faces import draw_face


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(saved_tiny_model: Path) -> Path:
    return saved_tiny_model


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(astronaut()).save(folder / "astronaut.jpg")
    Image.fromarray(coffee()).save(folder / "more" / "coffee.PNG")
    (folder / "letter.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def predict(*arguments: object) -> None:
    main(read_arguments([str(argument) for argument in arguments]))


def test_json_lines_continue_after_a_bad_picture(model: Path, pictures: Path, tmp_path: Path, capsys):
    output = tmp_path / "faces.jsonl"
    predict(pictures, "--model", model, "--output", output, "--age-ranges", "4 bins")
    face, damaged, empty = (json.loads(line) for line in output.read_text().splitlines())
    assert list(face["age_ranges"]) == ["0-17", "18-39", "40-59", "60+"]
    assert face["face"] == 0
    assert damaged["file"].endswith("letter.jpg")
    assert "none of these" in damaged["error"]
    assert empty == {
        "picture": 2,
        "file": str(pictures / "more" / "coffee.PNG"),
        "abstained": "No face was found.",
    }
    assert capsys.readouterr().err.endswith("Skipped in folders and archives: 1 .txt.\n")


def test_csv(model: Path, pictures: Path, tmp_path: Path, monkeypatch):
    """As Excel opens it: UTF-8 by its mark, no file name that runs, no range that becomes a date."""
    output = tmp_path / "faces.csv"
    monkeypatch.chdir(pictures)
    Path("astronaut.jpg").rename("=astronaut.jpg")
    predict(
        "=astronaut.jpg", "letter.jpg", "more", "--model", model, "--output", output, "--age-ranges", "0-2, 3-98, 99+"
    )
    assert output.read_bytes().startswith(b"\xef\xbb\xbfpicture,file,")
    with output.open(newline="", encoding="utf-8-sig") as file:
        face, damaged, empty = csv.DictReader(file)
    assert face["file"] == "'=astronaut.jpg"
    ranges = {label: float(face[f"age_range {label}"]) for label in ("0-2", "3-98", "99+")}
    assert sum(ranges.values()) == pytest.approx(1)
    assert face["age_range"] == max(ranges, key=ranges.get).replace("-", " to ")
    assert float(face["gender male"]) + float(face["gender female"]) == pytest.approx(1)
    assert 170 <= int(face["x0"]) < int(face["x1"]) < 280
    assert float(face["age_low"]) <= float(face["age"]) <= float(face["age_high"])
    assert 0.5 <= float(face["gender_probability"]) <= 1
    assert damaged["error"]
    assert not damaged["age"]
    assert empty["abstained"] == "No face was found."


def test_parquet_holds_what_the_pipeline_answers(model: Path, pictures: Path, tmp_path: Path, capsys):
    output = tmp_path / "faces.parquet"
    predict(pictures, "--model", model, "--output", output, "--part-size", 2)
    rows = pd.read_parquet(output)
    predict(pictures, "--model", model)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert rows["picture"].tolist() == [0, 1, 2]
    assert rows["age"][0] == pytest.approx(printed[0]["age"])
    assert rows["genders"][0] == pytest.approx(printed[0]["genders"])
    assert rows["box"][0].tolist() == printed[0]["box"]
    assert rows["error"].notna().tolist() == [False, True, False]
    assert not output.with_name("faces.parquet.parts").exists()


def test_a_video_has_a_row_for_each_sampled_frame_and_face(model: Path, tmp_path: Path):
    """Two seconds: one face, two faces, no face, for two thirds of a second each."""
    photo = astronaut()[:256, 96:352, ::-1]  # OpenCV writes BGR
    one, none = np.concatenate([photo, np.zeros_like(photo)], axis=1), np.zeros((256, 512, 3), np.uint8)
    video = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 6, (512, 256))
    for frame in [one] * 4 + [np.concatenate([photo, photo], axis=1)] * 4 + [none] * 4:
        writer.write(frame)
    writer.release()

    predict(video, "--model", model, "--output", tmp_path / "faces.parquet", "--frames-per-second", 2)
    rows = pd.read_parquet(tmp_path / "faces.parquet")
    assert set(rows["file"]) == {str(video)}
    assert rows["picture"].tolist() == [0, 1, 2, 2, 3]
    assert rows["seconds"].tolist() == pytest.approx([0, 0.5, 1, 1, 1.5])
    assert rows["face"].fillna(-1).tolist() == [0, 0, 0, 1, -1]
    assert rows["age"].notna().tolist() == [True, True, True, True, False]
    assert rows["box"][3][0] - rows["box"][2][0] == pytest.approx(256, abs=3)  # the same face, a picture further right
    assert rows["abstained"][4] == "No face was found."
    assert rows["error"].isna().all()


def test_crops(model: Path, pictures: Path, capsys: pytest.CaptureFixture):
    predict(pictures / "more" / "coffee.PNG", "--model", model, "--crops")
    [face] = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert face["box"] == [0, 0, 600, 400]
    assert face["age"] is not None


def test_no_results_are_lost(model: Path, pictures: Path, tmp_path: Path):
    output = tmp_path / "faces.csv"
    output.write_text("of yesterday")
    with pytest.raises(OutputError, match="Choose another"):
        predict(pictures, "--model", model, "--output", output)
    assert output.read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "faces.xlsx"], r"end in \.parquet, \.csv, \.jsonl"),
        (["--age-ranges", "0-5"], r"end with 6\+"),
        (["--device", "cuda"], r"asks for a GPU, but .*\. Use --device cpu"),
        (["--batch-size", "0"], "of 1 or more"),
        (["--frames-per-second", "0"], "above 0"),
    ],
)
def test_arguments_that_are_wrong_are_found_first(
    model: Path, pictures: Path, monkeypatch, arguments: list[str], message: str
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(AgeGenderError, match=message):
        predict(pictures, "--model", model, *arguments)


def crops_listed(folder: Path, count: int) -> Path:
    """A list file that names one small drawing `count` times."""
    if not (folder / "face.jpg").exists():
        draw_face(30, 0, seed=0).save(folder / "face.jpg")
    listed = folder / "crops.txt"
    listed.write_text(f"{folder / 'face.jpg'}\n" * count)
    return listed


@pytest.mark.slow
def test_a_killed_run_resumes_without_losing_or_repeating_a_row(model: Path, tmp_path: Path, monkeypatch):
    count, output = 3000, tmp_path / "faces.parquet"
    arguments = [crops_listed(tmp_path, count), "--model", model, "--output", output, "--crops", "--part-size", 100]
    command = [sys.executable, "-m", "scripts.predict", *map(str, arguments)]
    parts = tmp_path / "faces.parquet.parts"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        while len(list(parts.glob("part-*.parquet"))) < 3:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        with pytest.raises(AgeGenderError, match=rf"faces\.parquet is alive \(process {process.pid} on"):
            predict(*arguments)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    kept = {part.name for part in parts.glob("part-*.parquet")}
    assert 3 <= len(kept) < count / 100
    (parts / ".part-000020.parquet.1").write_bytes(b"half a part")  # as a kill in the middle of a write leaves it

    with pytest.raises(OutputError, match=r"holds a run with other settings: detect\."):
        predict(*(argument for argument in arguments if argument != "--crops"))
    with pytest.raises(OutputError, match=r"holds a run with other settings: input\."):
        predict(crops_listed(tmp_path, count + 1), *arguments[1:])

    crops_listed(tmp_path, count)
    written, write = [], Parts.write
    monkeypatch.setattr(Parts, "write", lambda self, part, rows: (written.append(part), write(self, part, rows)))
    predict(*arguments)
    assert {f"part-{part:06d}.parquet" for part in written}.isdisjoint(kept)
    assert len(written) + len(kept) == count / 100
    assert pd.read_parquet(output)["picture"].tolist() == list(range(count))
    assert not parts.exists()


def test_killed_after_the_output_appeared_it_only_clears_up(model: Path, tmp_path: Path, monkeypatch):
    output = tmp_path / "faces.csv"
    arguments = (crops_listed(tmp_path, 3), "--model", model, "--output", output, "--crops")
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "clear", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(*arguments)
    before = output.read_text()
    predict(*arguments)
    assert output.read_text() == before
    assert not output.with_name("faces.csv.parts").exists()


def test_killed_while_it_cleared_up_it_clears_up_again(model: Path, tmp_path: Path, monkeypatch):
    output = tmp_path / "faces.csv"
    arguments = (crops_listed(tmp_path, 3), "--model", model, "--output", output, "--crops")
    with monkeypatch.context() as patch:
        patch.setattr("scoring.output.shutil.rmtree", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(*arguments)
    parts = output.with_name("faces.csv.parts")
    assert [path.name for path in parts.iterdir()] == ["merged"]
    predict(*arguments)
    assert not parts.exists()


def test_parts_without_their_settings_are_not_resumed(tmp_path: Path):
    parts = Parts(tmp_path / "faces.csv", pa.schema({"picture": pa.int64()}))
    parts.begin({"model": "one"})
    parts.write(0, [{"picture": 0}])
    (parts.folder / "settings.json").unlink()
    parts.begin({"model": "another"})
    assert parts.done() == set()


def test_a_killed_run_resumes_where_the_pattern_fits_the_output_too(model: Path, tmp_path: Path, monkeypatch):
    draw_face(30, 0, seed=0).save(tmp_path / "face.jpg")
    arguments = (tmp_path / "*", "--model", model, "--output", tmp_path / "faces.jsonl", "--crops")
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "merge", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict(*arguments)
    assert (tmp_path / "faces.jsonl.parts").exists()
    predict(*arguments)
    [face] = (tmp_path / "faces.jsonl").read_text().splitlines()
    assert json.loads(face)["file"] == str(tmp_path / "face.jpg")
