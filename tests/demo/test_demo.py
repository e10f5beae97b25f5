"""The parts of the demo that need no server: settings, ranges, cards, drawing, table, face tracking, saliency maps."""

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from demo.handlers import read_ranges, rebin
from demo.rendering import FACE_COLOURS, draw_faces, face_cards, figure, message, overlay_svg, thumbnail
from demo.saliency import saliency_maps
from demo.serving import ModelNotServable, ServedModel, about_markdown, embed_figures, find_model
from demo.settings import ModelChoice, Settings, SettingsError
from demo.table import Row, to_csv
from demo.texts import duration
from demo.tracking import MAX_MISSED_FRAMES, Tracks
from model.face_alignment import Face
from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput
from model.pipeline_age_gender import FaceLogits, PreparedFaces
from tests.support.tiny_model import IMAGE_SIZE, tiny_model


FACE = {
    "box": [10, 20, 60, 90],
    "detection_score": 0.9,
    "roll_degrees": -90,
    "age": 33.6,
    "age_interval": [27, 42],
    "age_range": "30-39",
    "age_ranges": {"0-29": 0.25, "30-39": 0.75},
    "gender": "female",
    "genders": {"male": 0.09, "female": 0.91},
    "abstained": None,
}
UNSURE = FACE | {"gender": "unsure", "genders": {"male": 0.48, "female": 0.52}}
NO_ANSWER = dict.fromkeys(FACE) | {"box": [0, 0, 9, 9], "abstained": "The face is <9> pixels wide."}


def test_folder_without_weights_says_what_is_missing(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotServable, match=r"preprocessor_config.json, model.safetensors not found.*config.json"):
        find_model(ModelChoice("mine", str(tmp_path)))


@pytest.mark.parametrize("text", ["nobody", "a:b,c", ":", "a:"])
def test_auth_that_is_not_understood_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("DEMO_AUTH", text)
    with pytest.raises(SettingsError, match="DEMO_AUTH must read name:password") as caught:
        Settings.from_environment()
    assert text not in str(caught.value).split()


def test_rebinning_equals_asking_again(pipe_answer: dict):
    years = pipe_answer["year_probabilities"]
    rebinned = rebin(pipe_answer, read_ranges("0-17, 18+", 116), 116)
    assert rebinned["age_ranges"] == pytest.approx({"0-17": sum(years[:18]), "18+": sum(years[18:])})
    assert rebinned["age"] == pipe_answer["age"]


@pytest.fixture
def pipe_answer() -> dict:
    years = [index / sum(range(117)) for index in range(117)]
    return {"year_probabilities": years, "age": 70.0, "age_ranges": {}, "age_range": ""}


def test_spreadsheet_reads_a_file_name_as_text():
    assert to_csv([Row("=cmd()", note="No face found.")]).splitlines()[1].startswith("'=cmd()")


def test_table_reads_well_whether_sure_or_not():
    table = to_csv([Row("a.jpg", 1, FACE), Row("a.jpg", 2, UNSURE), Row("b.jpg", note="No face found.")])
    assert table.splitlines() == [
        "picture,face,age by looks (years),from (years),to (years),age range (years),gender by looks,confidence,"
        "turned (degrees),note",
        "a.jpg,1,34,27,42,30-39,female,91%,-90,",
        'a.jpg,2,34,27,42,30-39,unsure,,-90,"male 48%, female 52%"',
        "b.jpg,,,,,,,,,No face found.",
    ]


@pytest.mark.parametrize("text", ["---\nlicense: other\n---\n# Card\n---\nmore", "# Card\n---\nmore"])
def test_card_is_shown_without_its_metadata(tmp_path: Path, text: str):
    (tmp_path / "README.md").write_text(text)
    shown = about_markdown(ServedModel("tiny", "a local folder", tmp_path))
    assert shown == "**Served here:** `tiny`, a local folder.\n\n---\n\n# Card\n---\nmore"


def test_figures_of_a_card_are_shown_even_where_they_are_links(tmp_path: Path):
    """As in the Hub's cache, whose snapshots are links to files elsewhere."""
    folder, blobs = tmp_path / "snapshots" / "0123abc", tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "of a").write_bytes(b"png")
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "a.png").symlink_to(blobs / "of a")
    shown = embed_figures("![a](figures/a.png) ![gone](figures/b.png) ![c](https://x/figures/a.png)", folder)
    assert shown == "![a](data:image/png;base64,cG5n) ![gone](figures/b.png) ![c](https://x/figures/a.png)"


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@pytest.mark.parametrize(
    ("face", "expected"),
    [
        (
            FACE,
            "2 Looks about 34 years old Probably between 27 and 42 years . For about 80% of faces such an interval contains the "
            "true age. Looks female (91% confidence)",
        ),
        (
            UNSURE,
            "Gender: unsure (male 48%, female 52%). The model names a gender only at a confidence of 70% or more.",
        ),
        (NO_ANSWER, "2 No answer for this face The face is &lt;9&gt; pixels wide."),
    ],
    ids=["sure", "unsure", "no answer"],
)
def test_card_says_what_the_face_looks_like_or_why_not(face: dict, expected: str):
    card = words(face_cards([2], [face], coverage=0.8, gender_threshold=0.7))
    assert expected in card
    assert " is female" not in card


def test_names_from_outside_cannot_become_markup():
    evil = "<script>alert(1)</script>"
    html = message(evil) + figure(Image.new("RGB", (2, 2)), f'"{evil}', evil)
    assert "<script>" not in html
    assert 'alt="&quot;' in html


@pytest.mark.parametrize("size_wh", [(100, 120), (4000, 3000), (1, 1), (2000, 20)])
def test_faces_are_drawn_on_any_size_without_changing_the_picture(size_wh: tuple):
    picture = Image.new("RGB", size_wh, "white")
    faces = [FACE | {"box": [0, 0, size_wh[0], size_wh[1]]}, NO_ANSWER | {"box": [0, 0, 1, 1]}]
    drawn = draw_faces(picture, faces)
    assert max(drawn.size) <= 1600
    assert np.asarray(picture).min() == 255
    assert np.asarray(drawn).min() < 255


@pytest.mark.parametrize("colour", FACE_COLOURS)
def test_white_text_is_readable_on_every_face_colour(colour: str):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ (0.2126, 0.7152, 0.0722) + 0.05) >= 4.5  # WCAG 2 AA


def frame(*faces: tuple[float, float]) -> FaceLogits:
    """One frame: a face 100 pixels wide at `x` whose logits are all `value`, for each (x, value)."""
    boxes = [Face(np.array([x, 0.0, x + 100, 100])) for x, _ in faces]
    return FaceLogits(
        PreparedFaces(torch.empty(len(faces), 3, 8, 8), boxes, crops=[], size_wh=(1000, 100)),
        age_logits=torch.tensor([[value] * 3 for _, value in faces]),
        gender_logits=torch.tensor([[value] * 2 for _, value in faces]),
    )


def test_a_face_keeps_its_number_and_its_answer_moves_slowly():
    tracks = Tracks()
    assert tracks.smooth(frame((0, 1.0), (300, 5.0)))[0] == [1, 2]
    numbers, smooth = tracks.smooth(frame((310, 5.0), (10, 2.0)))  # listed the other way round
    assert numbers == [2, 1]
    assert 1.0 < smooth.age_logits[1, 0] < 1.5
    assert 0 < smooth.prepared.faces[1].box_xyxy[0] < 5
    assert tracks.smooth(frame((15, 2.0), (800, 9.0)))[0] == [1, 3]  # 2 is still expected back
    for _ in range(MAX_MISSED_FRAMES + 1):
        assert tracks.smooth(frame())[0] == []
    assert tracks.smooth(frame((300, 5.0)))[0] == [1]  # all are forgotten


def test_a_frame_in_which_a_face_may_be_turned_adds_nothing_to_its_answer():
    def unsure_frame(value: float) -> FaceLogits:
        sure = frame((0, value))
        faces = [replace(face, is_roll_certain=False) for face in sure.prepared.faces]
        return replace(sure, prepared=replace(sure.prepared, faces=faces))

    tracks = Tracks()
    assert not tracks.smooth(unsure_frame(9.0))[1].prepared.faces[0].is_roll_certain  # nothing else is known yet
    first = tracks.smooth(frame((0, 1.0)))[1]
    assert first.prepared.faces[0].is_roll_certain
    assert first.age_logits[0, 0] == 1.0
    second = tracks.smooth(unsure_frame(9.0))[1]
    assert second.prepared.faces[0].is_roll_certain
    assert second.age_logits[0, 0] == 1.0


def test_a_thumbnail_shows_what_the_picture_has_of_a_face():
    wide = Image.new("RGB", (12_000, 300), "red")
    shown = Image.open(io.BytesIO(base64.b64decode(thumbnail(wide, (0, 0, 12_000, 300)).partition(",")[2])))
    assert shown.size == (112, 112)
    assert shown.getpixel((56, 56))[0] > 120


@pytest.mark.parametrize(("seconds", "text"), [(90, "90 seconds"), (179, "3 minutes"), (600, "10 minutes")])
def test_a_time_is_never_promised_shorter_than_it_is(seconds: int, text: str):
    assert duration(seconds) == text


def test_a_session_remembers_no_picture_and_no_answer():
    code = """
import asyncio
import gradio as gr
from gradio.state_holder import SessionState
from demo.gradio_changes import StrictBlocks

with StrictBlocks() as blocks:
    asked, shown, drawn = gr.Textbox(), gr.HTML(), gr.Image()
    asked.submit(lambda text: (f"answer to {text}", gr.update(alt_text=text)), asked, [shown, drawn])
state = SessionState(blocks)
assert state.config_values
done = asyncio.run(blocks.process_api(0, ["private"], state=state))
assert done["data"] == ["answer to private", {"alt_text": "private", "__type__": "update"}], done
assert "private" not in str(vars(state))
assert "private" not in str([vars(block) for block in state.blocks_config.blocks.values()])
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_overlay_holds_readable_text_inside_the_frame():
    svg = overlay_svg((640, 480), [1, 2], [FACE | {"box": [600, 0, 640, 60]}, NO_ANSWER])
    assert 'data-faces="2"' in svg
    assert "1 · 34 years" in svg
    for x, width in re.findall(r'<rect x="(\d+)" y="\d+" width="(\d+)"', svg):
        assert int(x) + int(width) <= 641


class AnswersByOneCorner(AgeGenderModel):
    """Its answers depend on the upper left quarter of the crop alone."""

    def forward(self, pixel_values: torch.Tensor) -> AgeGenderOutput:
        corner = pixel_values[:, 0, : IMAGE_SIZE // 2, : IMAGE_SIZE // 2].mean(dim=(1, 2))
        logits = torch.stack([corner, -corner], dim=1)
        return AgeGenderOutput(age_logits=logits, gender_logits=logits)


def test_map_is_bright_where_the_answer_comes_from():
    model = AnswersByOneCorner(tiny_model().config)
    maps = saliency_maps(model, torch.ones(3, IMAGE_SIZE, IMAGE_SIZE))
    assert set(maps) == {"age", "gender"}
    for heat in maps.values():
        assert heat.shape == (IMAGE_SIZE, IMAGE_SIZE)
        assert heat.max() == pytest.approx(1)
        assert heat[: IMAGE_SIZE // 2, : IMAGE_SIZE // 2].sum() > 0.9 * heat.sum()
