"""A turned picture is answered as the upright one, whichever way it comes in, with the model that ships."""

import base64
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from demo.handlers import Handlers
from demo.serving import find_model
from demo.settings import DEFAULT_MODEL, ModelChoice
from scripts.benchmarks.turned_faces import CANVAS_WH, PORTRAIT, turned_on_grey
from tests.support.odd_pictures import encoded
from tests.support.warm_python import warm_python


ROOT = Path(__file__).parents[2]
DEGREES = (0, 45, 50, 55, 60, 90, 135, 180, 270, 300)
PICTURES = [turned_on_grey(PORTRAIT[20:220, 130:330], degrees) for degrees in DEGREES]

Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def handlers() -> Handlers:
    return Handlers([find_model(ModelChoice("model", str(DEFAULT_MODEL)))], concurrency=1)


def by_pipeline(handlers: Handlers, folder: Path) -> Answers:
    return [face for [face] in handlers.served(None).pipeline(PICTURES)]


def by_boxes(handlers: Handlers, folder: Path) -> Answers:
    """The boxes say where the upright face lies once it is turned, and nothing of how far."""
    pipe = handlers.served(None).pipeline
    [upright] = pipe(PICTURES[0])
    (x0, y0, x1, y1), middle = upright["box"], complex(*CANVAS_WH) / 2
    half = (x1 - x0 + y1 - y0) / 4
    centers = [
        middle + (complex(x0 + x1, y0 + y1) / 2 - middle) * np.exp(1j * np.deg2rad(degrees)) for degrees in DEGREES
    ]
    boxes = [[(at.real - half, at.imag - half, at.real + half, at.imag + half)] for at in centers]
    return [face for [face] in pipe(PICTURES, boxes=boxes)]


def by_page(handlers: Handlers, folder: Path) -> Answers:
    return [face for picture in PICTURES for face in handlers.show(encoded("PNG", picture))["faces"]]


def by_webcam(handlers: Handlers, folder: Path) -> Answers:
    urls = ["data:image/jpeg;base64," + base64.b64encode(encoded("JPEG", picture)).decode() for picture in PICTURES]
    return [face for url in urls for face in handlers.show_live({"url": url}, None)[0]["faces"]]


def by_predict(handlers: Handlers, folder: Path) -> Answers:
    for index, picture in enumerate(PICTURES):
        (folder / f"{index:02}.png").write_bytes(encoded("PNG", picture))
    return predict(folder)


def by_video(handlers: Handlers, folder: Path) -> Answers:
    film = folder / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"FFV1"), 1, CANVAS_WH)  # lossless
    for picture in PICTURES:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return predict(film)


def predict(source: Path) -> Answers:
    command = [warm_python(), "-m", "scripts.predict", str(source), "--model", str(DEFAULT_MODEL)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


WAYS: Sequence[Callable[[Handlers, Path], Answers]] = (
    *(by_pipeline, by_boxes, by_page, by_webcam),
    *(pytest.param(way, marks=pytest.mark.slow) for way in (by_predict, by_video)),
)


@pytest.mark.parametrize("way", WAYS)
def test_a_turned_face_is_answered_as_the_upright_one(
    handlers: Handlers, way: Callable[[Handlers, Path], Answers], tmp_path: Path
):
    answers = way(handlers, tmp_path)
    assert len(answers) == len(DEGREES)
    upright = answers[0]
    for degrees, answer in zip(DEGREES, answers, strict=True):
        assert answer.get("abstained") is None, degrees  # rows leave out what is None
        assert abs((answer["roll_degrees"] - upright["roll_degrees"] - degrees + 180) % 360 - 180) <= 8, degrees
        assert answer["age"] == pytest.approx(upright["age"], abs=2), degrees  # one face: its crop varies by a pixel
        assert answer["gender"] == upright["gender"], degrees
