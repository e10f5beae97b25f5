"""The parts of the demo that need no server: settings, texts, About, face tracking, saliency maps."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from demo.about import about, compared, embed_figures
from demo.answer_pictures import saliency_maps
from demo.page import TEXTS
from demo.serving import ServedModel, find_model
from demo.settings import CC_BY_MODEL, DEFAULT_MODEL, ModelChoice, Settings, SettingsError
from demo.tracking import MAX_MISSED_FRAMES, Tracks
from model.face_alignment import Face
from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput
from model.pipeline_age_gender import FaceLogits, PreparedFaces
from tests.support.tiny_model import IMAGE_SIZE, save_tiny_model, tiny_model


def test_visitors_choose_between_the_models_that_ship(monkeypatch: pytest.MonkeyPatch):
    for name in ("MODEL_ID", "MODEL_IDS"):
        monkeypatch.delenv(name, raising=False)
    shipped = Settings.from_environment().models
    assert [choice.name for choice in shipped] == ["Most accurate, for research only", "CC BY 4.0"]
    licenses = [about(find_model(choice))[0]["license"]["name"] for choice in shipped]
    assert licenses == ["utkface-non-commercial-research", "cc-by-4.0"]
    accurate, reusable = compared([find_model(choice) for choice in shipped])
    assert (accurate["kind"], reusable["kind"]) == ("accurate", "reusable")
    assert accurate["measured"]["dataset"] == reusable["measured"]["dataset"] == "UTKFace", "the same kind of faces"
    metrics = [json.loads(Path(folder, "metrics.json").read_text()) for folder in (DEFAULT_MODEL, CC_BY_MODEL)]
    errors = [metrics[0]["age"]["mae"]["value"], metrics[1]["outside"]["UTKFace"]["age"]["mae"]["value"]]
    assert [accurate["measured"]["age_mae"], reusable["measured"]["age_mae"]] == errors
    assert errors[0] < errors[1], "as their words say"
    monkeypatch.setenv("MODEL_ID", DEFAULT_MODEL)
    assert [choice.model_id for choice in Settings.from_environment().models] == [DEFAULT_MODEL]


@pytest.mark.parametrize("models", [{}, {"MODEL_IDS": "user/one,user/two"}], ids=["no model", "several models"])
def test_a_revision_of_no_single_model_is_refused(monkeypatch: pytest.MonkeyPatch, models: dict[str, str]):
    """Else another version would be served than the operator wrote."""
    for name in ("MODEL_ID", "MODEL_IDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**models, "MODEL_REVISION": "v1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="MODEL_REVISION needs MODEL_ID; in MODEL_IDS write user/repo@revision"):
        Settings.from_environment()


@pytest.mark.parametrize("text", ["nobody", "a:b,c", ":", "a:"])
def test_auth_that_is_not_understood_is_refused_without_repeating_it(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("DEMO_AUTH", text)
    with pytest.raises(SettingsError, match="DEMO_AUTH must read name:password") as caught:
        Settings.from_environment()
    assert text not in str(caught.value).split()


@pytest.mark.parametrize("text", ["---\nlicense: other\n---\n# Card\n---\nmore", "# Card\n---\nmore"])
def test_card_is_shown_without_its_metadata(tmp_path: Path, text: str):
    (tmp_path / "README.md").write_text(text)
    shown = about(ServedModel("tiny", "a local folder", tmp_path))[1]
    assert shown == "# Card\n---\nmore"


@pytest.mark.parametrize(
    ("metadata", "license"),
    [
        ("license: mit", {"name": "mit", "link": None}),
        (
            "license: other\nlicense_name: own\nlicense_link: https://a/b",
            {"name": "own", "link": "https://a/b"},
        ),
        ("license_name: own\nlicense_link: javascript:alert(1)", {"name": "own", "link": None}),
        ("tags: [age]", None),
    ],
)
def test_about_names_the_licence_of_the_card(tmp_path: Path, metadata: str, license: dict | None):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# Card")
    assert about(ServedModel("tiny", "", tmp_path))[0]["license"] == license


def test_about_shows_what_was_measured():
    """Of the model that ships; whatever is not in a metrics.json is left out."""
    served = find_model(ModelChoice("model", DEFAULT_MODEL))
    shown = about(served)[0]
    metrics = json.loads((served.folder / "metrics.json").read_text())
    assert shown["age_mae"] == metrics["age"]["mae"]["value"]
    assert (shown["dataset"], len(shown["by_age"]), shown["elsewhere"]) == ("UTKFace", 4, None)
    # without ages in its own test set, by those of another
    elsewhere = about(find_model(ModelChoice("other", CC_BY_MODEL)))[0]["elsewhere"]
    assert elsewhere["dataset"] == "UTKFace"
    assert elsewhere["age_mae"] > 0
    assert about(ServedModel("none", "", Path("nowhere")))[0].get("age_mae") is None


@pytest.mark.parametrize(
    "metrics",
    [
        *(
            "[]",
            "5",
            '"text"',
            "null",
            "{",
            '{"age": 5}',
            '{"age": {"mae": [1]}}',
            '{"age": {"mae": {"value": "4.5"}}}',
        ),
        *('{"outside": [1]}', '{"outside": {"UTKFace": 5}}', '{"groups": 5}', '{"groups": [5, {"by": "age"}]}'),
    ],
)
def test_a_foreign_metrics_json_stops_nothing(tmp_path: Path, metrics: str):
    save_tiny_model(tmp_path)
    (tmp_path / "metrics.json").write_text(metrics)
    served = find_model(ModelChoice("tiny", str(tmp_path)))
    assert compared([served]) == [{"name": "tiny", "kind": None, "measured": None}]
    summary, _ = about(served)
    assert summary.get("age_mae") is None
    assert summary.get("by_age", []) == []


def test_figures_of_a_card_are_shown_even_where_they_are_links(tmp_path: Path):
    """As in the Hub's cache, whose snapshots are links to files elsewhere."""
    folder, blobs = tmp_path / "snapshots" / "0123abc", tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "of a").write_bytes(b"png")
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "a.png").symlink_to(blobs / "of a")
    shown = embed_figures("![a](figures/a.png) ![gone](figures/b.png) ![c](https://x/figures/a.png)", folder)
    assert shown == "![a](data:image/png;base64,cG5n) ![gone](figures/b.png) ![c](https://x/figures/a.png)"


def test_every_text_is_in_every_language():
    """The same keys, the same places to fill in, and no text that nothing shows."""
    english, german = TEXTS["en"], TEXTS["de"]
    assert english.keys() == german.keys()
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", german[key])), key
    web = Path(__file__).parents[2] / "demo"
    source = "".join(
        path.read_text() for path in [*web.glob("web/**/*.js"), *web.glob("web/site/*.html"), *web.glob("*.py")]
    )
    made = ("_one", "_many", "column_", "example_", "credit_", "saliency_", "status_", "card_", "error_")
    assert [key for key in english if f"'{key}'" not in source and f'"{key}"' not in source
            and not any(part in key for part in made)] == []  # fmt: skip


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
