"""The handlers: their answers to the page, to a live frame, and what they refuse."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from demo.answer_pictures import MAX_SALIENCY_MAPS
from demo.decoding import FRAMES
from demo.fair_use import BusyError, TooCostlyError, TooOftenError, Visitor, kind_of, visitor
from demo.handlers import Handlers
from demo.serving import ModelNotServable, ServedModel, find_model
from demo.settings import ModelChoice
from model.errors import AgeGenderError
from model.image_decoding import PictureDamagedError
from model.prepared_faces import PreparedFaces
from tests.support.odd_pictures import encoded
from tests.support.tiny_model import save_tiny_model


@pytest.mark.parametrize(
    "frame",
    [{"path": "/etc/passwd"}, {"url": "http://a/b.jpg"}, {"url": "data:image/png;base64,!"}, "frame", [1], None],
)
def test_only_a_data_url_is_a_webcams_picture(frame: object):
    answer, tracks = Handlers([ServedModel("tiny", "", Path())], 1).show_live(frame, None)
    assert (list(answer), answer["kind"]) == (["problem", "kind"], "picture")
    assert tracks is None


def test_a_live_frame_says_of_which_kind_its_problem_is():
    handlers = Handlers([ServedModel("tiny", "", Path())], 1)
    FRAMES.spend("greedy", FRAMES.seconds_per_minute + 1)
    token = visitor.set(Visitor("greedy"))
    try:
        answer, _ = handlers.show_live({"url": "data:image/png;base64,AAAA"}, None)
    finally:
        visitor.reset(token)
    assert answer["kind"] == "too_often"
    assert 0 < answer["wait_seconds"] <= 61
    assert handlers.show_live({"url": "data:image/png;base64,AAAA"}, None, "another")[0]["kind"] == "option"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BusyError(), "busy"),
        (TooOftenError("", 5), "too_often"),
        (TooCostlyError(), "too_costly"),
        (PictureDamagedError(), "picture"),
        (ModelNotServable(), "option"),
    ],
)
def test_kinds_of_problems(error: AgeGenderError, kind: str):
    assert kind_of(error) == kind


def handlers_of(folder: Path, **config_values) -> Handlers:
    save_tiny_model(folder / "tiny", **config_values)
    return Handlers([find_model(ModelChoice("tiny", str(folder / "tiny")))], concurrency=1)


def test_answer_holds_every_years_probability_and_what_the_model_says_of_itself(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    answer = handlers.show(encoded("JPEG"))
    [face] = answer["faces"]
    config = handlers.served(None).pipeline.model.config
    assert answer["size_wh"] == [512, 512]
    assert (answer["max_age"], answer["interval_coverage"]) == (config.max_age, config.interval_coverage)
    assert len(face["year_probabilities"]) == config.max_age + 1
    assert sum(face["year_probabilities"]) == pytest.approx(1, abs=1e-4)
    assert "preview" not in answer


def test_picture_as_a_whole_is_one_face_and_comes_back_where_the_browser_cannot_show_it(tmp_path: Path):
    picture = encoded("TIFF", np.zeros((40, 3000, 3), np.uint8))
    answer = handlers_of(tmp_path).show(picture, detect=False, with_preview=True)
    assert [face["box"] for face in answer["faces"]] == [[0, 0, 3000, 40]]
    preview = Image.open(io.BytesIO(base64.b64decode(answer["preview"].partition(",")[2])))
    assert preview.size == (1600, 21)


def test_saliency_maps_are_made_of_the_first_faces_that_have_an_answer(tmp_path: Path):
    row = encoded("PNG", np.hstack([astronaut()] * (MAX_SALIENCY_MAPS + 1)))
    faces = handlers_of(tmp_path).show(row, with_saliency=True)["faces"]
    assert ["saliency_maps" in face for face in faces] == [True] * MAX_SALIENCY_MAPS + [False]
    small = handlers_of(tmp_path / "small", min_face_pixels=4000).show(encoded("JPEG"), with_saliency=True)
    assert [(face["age"], "saliency_maps" in face) for face in small["faces"]] == [(None, False)]


@pytest.mark.parametrize(
    ("box_xyxy", "key"),
    [((-30, 100, 10, 150), "which_way_up"), ((0, 100, 10, 150), "too_small"), ((-15, 100, 10, 150), "too_small")],
    ids=["cut by the edge", "small", "small and cut"],
)
def test_the_reason_for_no_answer_is_that_of_the_whole_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box_xyxy: tuple[int, ...], key: str
):
    """Of each only ten pixels are in the picture, which is all that the page is told; and none is surely upright."""
    handlers = handlers_of(tmp_path, min_face_pixels=30)
    pipe = handlers.served(None).pipeline
    prepare = pipe.preprocess

    def prepare_turned(picture: np.ndarray, **options: object) -> PreparedFaces:
        prepared = prepare(picture, **options)
        turned = [replace(face, box_xyxy=np.array(box_xyxy), is_roll_certain=False) for face in prepared.faces]
        return replace(prepared, faces=turned)

    monkeypatch.setattr(pipe, "preprocess", prepare_turned)
    answer = handlers.show(encoded("JPEG"))
    [face] = answer["faces"]
    assert (face["abstained_key"], face["box"], answer["min_face_pixels"]) == (key, [0, 100, 10, 150], 30)


def test_live_faces_have_numbers_and_their_tracks_go_on(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    frame = {"url": "data:image/jpeg;base64," + base64.b64encode(encoded("JPEG")).decode()}
    answer, tracks = handlers.show_live(frame, None)
    assert [face["number"] for face in answer["faces"]] == [1]
    empty = {
        "url": "data:image/png;base64," + base64.b64encode(encoded("PNG", np.zeros((48, 64, 3), np.uint8))).decode()
    }
    answer, same = handlers.show_live(empty, tracks)
    assert (answer["faces"], answer["size_wh"], same is tracks) == ([], [64, 48], True)


def test_what_cannot_be_answered_is_an_error_with_its_reason(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    with pytest.raises(AgeGenderError, match="none of these"):
        handlers.show(b"no picture")
    with pytest.raises(AgeGenderError, match="Choose one of: tiny"):
        handlers.show(encoded("JPEG"), model="another")
