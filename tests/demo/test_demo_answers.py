"""The page's handlers: their answers to one picture, to several, and to a live frame, in any age ranges."""

import base64
import io
import re
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from demo.handlers import Handlers
from demo.rendering import message
from demo.saliency import MAX_SALIENCY_MAPS
from demo.serving import ServedModel, find_model
from demo.settings import ModelChoice
from demo.texts import CHOOSE, NO_FACE
from tests.support.tiny_model import save_tiny_model


@pytest.mark.parametrize(
    "frame", [{"path": "/etc/passwd"}, {"url": "http://a/b.jpg"}, {"url": "data:image/png;base64,!"}, "frame", [1]]
)
def test_only_a_data_url_is_a_webcams_picture(frame: dict):
    layer, notice, _ = Handlers([ServedModel("tiny", "", Path())], 1).show_live(frame, "4 bins", None)
    assert layer == ""
    assert "problem" in notice


PORTRAIT = {"path": str(Path(__file__).parents[2] / "examples" / "astronaut.jpg"), "orig_name": "astronaut.jpg"}


def handlers_of(folder: Path, **config_values) -> Handlers:
    save_tiny_model(folder / "tiny", **config_values)
    return Handlers([find_model(ModelChoice("tiny", str(folder / "tiny")))], max_pictures=3)


def upload(folder: Path, picture: np.ndarray | None) -> dict:
    """None: a file that is no picture."""
    path = folder / "upload.png"
    path.write_bytes(b"no picture") if picture is None else Image.fromarray(picture).save(path)
    return {"path": str(path), "orig_name": path.name}


def test_other_ranges_reuse_the_answer_until_it_expires(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    _, notice, cards, kept, _ = handlers.show(PORTRAIT, "4 bins")
    in_other_ranges = handlers.change_ranges(kept, "0-17, 18+", PORTRAIT)
    assert in_other_ranges[0] == notice
    assert in_other_ranges[1].count("<li") == 2
    assert handlers.change_ranges(kept, "4 bins", PORTRAIT) == (notice, cards, gr.skip())
    assert "add 18-19" in handlers.change_ranges(kept, "0-17, 20+", PORTRAIT)[0]
    # expired, or not there yet: the model is asked again
    said, shown, asked_again = handlers.change_ranges(None, "0-17, 18+", PORTRAIT)
    assert (said, shown) == (gr.skip(), gr.skip())
    assert isinstance(asked_again, float)
    # the model is at work on another picture
    assert handlers.change_ranges(kept, "0-17, 18+", PORTRAIT | {"path": "another"}) == (gr.skip(),) * 3
    assert handlers.change_ranges(None, "0-17, 18+", None) == (message(CHOOSE), gr.skip(), gr.skip())


@pytest.mark.parametrize("picture", [None, np.zeros((80, 90, 3), np.uint8)], ids=["damaged", "no face"])
def test_other_ranges_leave_what_was_said_about_a_picture(tmp_path: Path, picture: np.ndarray | None):
    handlers, sent = handlers_of(tmp_path), upload(tmp_path, picture)
    _, notice, cards, kept, _ = handlers.show(sent, "4 bins")
    assert ("none of these" if picture is None else NO_FACE) in notice
    assert cards == ""
    assert handlers.change_ranges(kept, "0-17, 18+", sent) == (notice, gr.skip(), gr.skip())


def test_ranges_changed_while_the_model_worked_are_caught_up_with(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    kept = handlers.show(PORTRAIT, "4 bins")[3]
    assert handlers.catch_up(kept, "4 bins", PORTRAIT) == (gr.skip(), gr.skip())
    assert handlers.catch_up(kept, "0-17, 18+", PORTRAIT)[1].count("<li") == 2


def test_refusal_removes_the_answer_to_another_picture_and_keeps_one_to_the_same(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    kept = handlers.show(PORTRAIT, "4 bins")[3]
    drawn, notice, cards, *rest = handlers.refused(kept, PORTRAIT)
    assert ("busy" in notice, drawn, cards, *rest) == (True, *[gr.skip()] * 4)
    drawn, notice, cards, forgotten, _ = handlers.refused(kept, PORTRAIT | {"path": "another"})
    assert (drawn["value"], "busy" in notice, cards, forgotten) == (None, True, "", None)
    assert handlers.refused(kept, None)[1] == message(CHOOSE)


def test_picture_that_was_deleted_must_be_chosen_again(tmp_path: Path):
    gone = {"path": str(tmp_path / "gone.png"), "orig_name": "gone.png"}
    handlers = handlers_of(tmp_path)
    drawn, notice, cards, kept, _ = handlers.show(gone, "4 bins")
    assert "Choose it again" in notice
    assert drawn == cards == gr.skip(), "its answer may still be there to read"
    assert handlers.catch_up(kept, "0-17, 18+", gone) == (gr.skip(), gr.skip()), (
        "what was said must not be written over"
    )


def test_what_is_left_out_of_the_maps_is_said(tmp_path: Path):
    row = np.hstack([astronaut()] * (MAX_SALIENCY_MAPS + 1))
    _, notice, cards, kept, _ = handlers_of(tmp_path).show(upload(tmp_path, row), "4 bins", show_saliency=True)
    assert cards.count("<h3>Saliency maps") == MAX_SALIENCY_MAPS
    assert f"9 faces found. Saliency maps are shown for the first {MAX_SALIENCY_MAPS} of them." in notice
    assert kept.notice == notice


def test_empty_frame_says_what_to_do(tmp_path: Path):
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), "olive").save(buffer, "JPEG")
    frame = {"url": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()}
    layer, cards, _ = handlers_of(tmp_path).show_live(frame, "4 bins", None)
    assert 'data-faces="0"' in layer
    assert "Come closer" in cards


def test_mistake_in_the_ranges_costs_no_frame_and_no_track(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    frame = {"url": "data:image/jpeg;base64," + base64.b64encode(Path(PORTRAIT["path"]).read_bytes()).decode()}
    tracks = handlers.show_live(frame, "4 bins", None)[2]
    layer, cards, followed = handlers.show_live(frame, "0-17, 20+", tracks)
    assert 'data-faces="1"' in layer
    assert cards.index("add 18-19") < cards.index("face-card")
    assert cards.count("<li") == 9
    assert followed is tracks


def test_face_without_an_answer_has_no_map(tmp_path: Path):
    cards = handlers_of(tmp_path, min_face_pixels=5000).show(PORTRAIT, "4 bins", show_saliency=True)[2]
    assert "No answer for this face" in cards
    assert "Saliency maps" not in cards


def test_table_of_several_pictures_follows_the_ranges(tmp_path: Path):
    handlers = handlers_of(tmp_path)
    pictures = [PORTRAIT, upload(tmp_path, None)]
    _, table, kept = handlers.show_several(pictures, "0-17, 20+")
    assert table == ""
    gallery, notice, table = handlers.change_several_ranges(kept, "0-17, 20+", pictures)
    assert (gallery, "add 18-19" in notice, table) == (gr.skip(), True, gr.skip())
    in_4_bins = handlers.show_several(pictures, "4 bins")[1]
    assert in_4_bins.count("<tr>") == 3
    assert handlers.change_several_ranges(kept, "4 bins", pictures) == (gr.skip(), "", in_4_bins)
    assert handlers.change_several_ranges(None, "4 bins", []) == (gr.skip(), "", gr.skip())
    gallery, notice, table = handlers.change_several_ranges(None, "4 bins", pictures)
    assert (gallery, "Find the faces" in notice, table) == (gr.skip(), True, gr.skip())


def test_answers_to_other_pictures_or_by_another_model_are_removed(tmp_path: Path):
    """They may change while the model is at work."""
    handlers = handlers_of(tmp_path)
    kept = handlers.show_several([PORTRAIT], "4 bins")[2]
    assert handlers.change_several_ranges(kept, "4 bins", []) == ("", "", "")
    for pictures, model in ([upload(tmp_path, None)], None), ([PORTRAIT], "another"):
        gallery, notice, table = handlers.change_several_ranges(kept, "4 bins", pictures, model)
        assert (gallery, "Find the faces" in notice, table) == ("", True, "")


def test_more_pictures_than_the_operator_allows_are_refused(tmp_path: Path):
    handlers, four = handlers_of(tmp_path), [PORTRAIT] * 4
    gallery, table, kept = handlers.show_several(four, "4 bins")
    assert ("At most 3 pictures at once; you chose 4" in gallery, table) == (True, "")
    assert handlers.change_several_ranges(kept, "4 bins", four) == (gr.skip(), "", "")
    assert "At most" not in handlers.show_several(four[:3], "4 bins")[0]


@pytest.mark.parametrize("pictures", ["a.png", {"path": "a.png"}, ["a.png"], [{"path": "a.png"}], [{"orig_name": 3}]])
def test_what_is_no_list_of_files_is_refused(tmp_path: Path, pictures: object):
    gallery, table, _ = handlers_of(tmp_path).show_several(pictures, "4 bins")
    assert re.search("Expected|deleted", gallery + table)
