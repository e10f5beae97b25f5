"""The demo's benchmarks measure what they say: as many faces as they name, and answers that identify their picture."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from model.face_detection import YUNET_FILE, YuNetDetector
from model.image_loading import load_rgb
from scripts.benchmarks.demo import FACES
from scripts.benchmarks.visiting import DemoEnded, picture_with_faces, running_demo
from tests.support.demo_server import ROOT, DemoServer


@pytest.mark.parametrize("faces", FACES)
def test_as_many_faces_are_found_as_are_measured(faces: int):
    assert len(YuNetDetector(ROOT / "model" / YUNET_FILE).detect(load_rgb(picture_with_faces(faces)))) == faces


@pytest.mark.slow
def test_every_request_of_a_load_is_answered(tmp_path: Path):
    with DemoServer(tmp_path, MODEL_ID=str(ROOT / "model"), REQUESTS_PER_MINUTE="1000") as demo:
        command = [sys.executable, "-m", "scripts.benchmarks.load", demo.url, "--clients", "3", "--requests", "6"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "3 clients: {'answered': 6}" in done.stdout


@pytest.mark.slow
def test_the_load_under_attack_is_one_command():
    options = ["--attack", "--clients", "2", "--requests", "4"]
    command = [sys.executable, "-m", "scripts.benchmarks.load", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"2 clients: [\d.]+ answers a second, [\d.]+ under attack \([\d.]+%\)", done.stdout)
    assert re.search(r"for each of their answers: \d+ ms, \d+ ms under attack \([\d.]+%\)", done.stdout)
    assert re.search(r"one visitor under attack: p50 [\d.]+ s, p95 [\d.]+ s", done.stdout)
    assert re.search(r"of a core meanwhile; what it got: \{.*'413': \d+", done.stdout)


@pytest.mark.slow
def test_a_demo_that_cannot_start_is_an_error_with_its_reason():
    with running_demo("no/such/folder") as demo, pytest.raises(DemoEnded, match="a folder that exists, or a Hub id"):
        demo.wait_until_it_answers()
