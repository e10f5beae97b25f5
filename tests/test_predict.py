"""`python -m scripts.predict`: pictures and folders in, one line a face out."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage.data import astronaut, coffee

from scripts.predict import find_pictures, main, read_arguments
from tests.tiny_model import save_tiny_model


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "tiny"
    save_tiny_model(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(astronaut()).save(folder / "astronaut.jpg")
    Image.fromarray(coffee()).save(folder / "more" / "coffee.PNG")
    (folder / "letter.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.mark.slow
def test_as_people_type_it(model: Path, pictures: Path):
    command = [sys.executable, "-m", "scripts.predict", str(pictures / "astronaut.jpg"), "--model", str(model)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    face = json.loads(line)
    assert face["file"] == str(pictures / "astronaut.jpg")
    assert face["gender"] in ("male", "female")


def test_json_lines_go_on_after_a_bad_picture(model: Path, pictures: Path, tmp_path: Path):
    output = tmp_path / "faces.jsonl"
    main(read_arguments([str(pictures), "--model", str(model), "--output", str(output), "--age-ranges", "4 bins"]))
    face, damaged, empty = (json.loads(line) for line in output.read_text().splitlines())
    assert list(face["age_ranges"]) == ["0-17", "18-39", "40-59", "60+"]
    assert damaged["file"].endswith("letter.jpg")
    assert "none of these" in damaged["error"]
    assert empty == {"file": str(pictures / "more" / "coffee.PNG"), "abstained": "No face was found."}


def test_csv(model: Path, pictures: Path, tmp_path: Path):
    output = tmp_path / "faces.csv"
    main(read_arguments([str(pictures), "--model", str(model), "--output", str(output)]))
    with output.open(newline="") as file:
        face, damaged, empty = csv.DictReader(file)
    assert 170 <= int(face["x0"]) < int(face["x1"]) < 280
    assert float(face["age_low"]) <= float(face["age"]) <= float(face["age_high"])
    assert 0.5 <= float(face["gender_probability"]) <= 1
    assert damaged["error"]
    assert not damaged["age"]
    assert empty["abstained"] == "No face was found."


def test_crops(model: Path, pictures: Path, capsys: pytest.CaptureFixture):
    main(read_arguments([str(pictures / "more" / "coffee.PNG"), "--model", str(model), "--crops"]))
    [face] = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert face["box"] == [0, 0, 600, 400]
    assert face["age"] is not None


def test_no_results_are_lost(model: Path, pictures: Path, tmp_path: Path):
    output = tmp_path / "faces.csv"
    output.write_text("of yesterday")
    with pytest.raises(FileExistsError, match="Choose another"):
        main(read_arguments([str(pictures), "--model", str(model), "--output", str(output)]))
    assert output.read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "faces.xlsx"], r"\.jsonl or \.csv"),
        (["--age-ranges", "0-5"], r"end with 6\+"),
    ],
)
def test_arguments_that_are_wrong_are_found_first(model: Path, pictures: Path, arguments: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        main(read_arguments([str(pictures), "--model", str(model), *arguments]))


def test_nothing_to_look_at(tmp_path: Path):
    with pytest.raises(ValueError, match="found none"):
        list(find_pictures([str(tmp_path)]))
    with pytest.raises(FileNotFoundError, match="nothing at"):
        list(find_pictures([str(tmp_path / "absent.jpg")]))
    assert list(find_pictures(["https://example.org/photo.jpg"])) == ["https://example.org/photo.jpg"]
