"""The page's handlers: each turns what a visitor did into one pipeline call, and its answer into what the page shows.

They log nothing and keep nothing themselves; Gradio holds a `PictureState` or `SeveralState` for the visitor's session.
An upload arrives as Gradio's description of a file (`path`, `orig_name`), because the components are told not to
preprocess: a bad file then gets a clear answer here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from demo import texts
from demo.rendering import describe, draw_faces, face_cards, figure, message, overlay_svg, thumbnail
from demo.saliency import MAX_SALIENCY_MAPS, add_saliency_maps
from demo.serving import ServedModel
from demo.table import Row, answers_table
from demo.tracking import Tracks
from demo.uploads import PictureDeletedError, path_of, read_frame, read_upload
from model.configuration_age_gender import parse_age_ranges
from model.decoding_age_gender import age_range_fields
from model.errors import AgeGenderError


DEFAULT_RANGES = "FairFace-9"


@dataclass(frozen=True)
class PictureState:
    """What the Picture tab shows: `path` of the picture, the ranges asked for, the notice, and the faces found."""

    path: str | None
    model: str | None
    age_ranges: str
    notice: str
    faces: list[dict[str, Any]]


class PictureTab(NamedTuple):
    """New values of the Picture tab's outputs, in their order; `gr.skip()` leaves one as it is."""

    drawn: Any = gr.skip()
    notice: Any = gr.skip()
    cards: Any = gr.skip()
    state: Any = gr.skip()
    whole_button: Any = gr.skip()


@dataclass(frozen=True)
class SeveralState:
    """What the Several tab shows: the rows of its table, and the model and the pictures' paths that they came from."""

    model: str | None
    paths: list[str | None]
    rows: list[Row]


class Handlers:
    """`model` is always the name of one of `models`; None stands for the first."""

    def __init__(self, models: Sequence[ServedModel], max_pictures: int):
        self.models = {served.name: served for served in models}
        self.max_pictures = max_pictures

    def served(self, model: str | None) -> ServedModel:
        """Raises `AgeGenderError` for a name that is not offered."""
        if model is None:
            return next(iter(self.models.values()))
        if not isinstance(model, str) or model not in self.models:
            raise AgeGenderError(f"There is no such model here. Choose one of: {', '.join(self.models)}.")
        return self.models[model]

    def show(
        self,
        picture: dict | None,
        age_ranges: str,
        show_saliency: bool = False,
        model: str | None = None,
        whole_path: str | None = None,
    ) -> PictureTab:
        """Find the faces in a picture and answer for each.

        Args:
            age_ranges: ranges that cannot be read are replaced by the default ones, so that the answer is there when the
                visitor has corrected them.
            whole_path: path of the picture that is one face as a whole, if the visitor said so.
        """
        if picture is None:
            return _no_answer(message(texts.CHOOSE), None)
        path = path_of(picture)
        state = PictureState(path, model, age_ranges, message(texts.NO_FACE, "problem"), [])
        try:
            served, image_rgb = self.served(model), read_upload(picture)
            pipe = served.pipeline
            ranges, problem = _ranges_or_default(age_ranges, pipe.model.config.max_age)
            prepared = pipe.preprocess(image_rgb, detect=path != whole_path)
            faces = pipe.postprocess(pipe.forward(prepared), age_ranges=ranges, return_years=True)
        except PictureDeletedError as error:
            # The earlier answer may still be there to read. Without a state `catch_up` leaves this notice as it is.
            return PictureTab(notice=message(str(error), "problem"), state=None, whole_button=gr.update(visible=False))
        except AgeGenderError as error:
            state = replace(state, notice=message(str(error), "problem"))
            return _no_answer(state.notice, state)
        if not faces:
            return _no_answer(state.notice, state, offer_whole=True)
        image = Image.fromarray(image_rgb)
        faces = [{**face, "thumbnail": thumbnail(image, face["box"])} for face in faces]
        notice = texts.count_faces(len(faces))
        if show_saliency:
            faces = add_saliency_maps(pipe.model, prepared, faces)
            if sum(not face["abstained"] for face in faces) > MAX_SALIENCY_MAPS:
                notice += " " + texts.MAPS_LEFT_OUT.format(count=MAX_SALIENCY_MAPS)
        state = replace(state, notice=message(notice), faces=faces)
        return PictureTab(
            drawn=gr.update(value=draw_faces(image, faces), alt_text=describe(faces), visible=True),
            notice=problem or state.notice,
            cards=_cards(served, faces),
            state=state,
            whole_button=gr.update(visible=False),
        )

    def refused(self, state: PictureState | None, picture: dict | None = None, model: str | None = None) -> PictureTab:
        """Tell a visitor whose request the request limits or a full queue refused, so that `show` never ran.

        An answer that belongs to the same picture stays; one to an earlier picture would be taken for this one's.
        """
        if picture is None:
            return _no_answer(message(texts.CHOOSE), None)
        notice = message(texts.BUSY, "problem refused")  # page.css shows a button with it
        if state is not None and (state.path, state.model) == (path_of(picture), model):
            return PictureTab(notice=notice)
        return _no_answer(notice, None)

    def change_ranges(
        self, state: PictureState | None, age_ranges: str, picture: dict | None = None, model: str | None = None
    ) -> tuple:
        """The same prediction in other ranges -> notice, cards, a new value where the model must be asked again."""
        try:
            served = self.served(model)
            max_age = served.pipeline.model.config.max_age
            ranges = read_ranges(age_ranges, max_age)
        except AgeGenderError as error:
            return message(str(error), "problem"), gr.skip(), gr.skip()
        if picture is None:
            return message(texts.CHOOSE), gr.skip(), gr.skip()
        if state is None:  # expired, or not there yet
            return gr.skip(), gr.skip(), time.monotonic()
        if (state.path, state.model) != (path_of(picture), model):  # the model is at work; `catch_up` comes after it
            return gr.skip(), gr.skip(), gr.skip()
        if not state.faces:
            return state.notice, gr.skip(), gr.skip()
        cards = _cards(served, [rebin(face, ranges, max_age) for face in state.faces])
        return state.notice, cards, gr.skip()

    def catch_up(
        self, state: PictureState | None, age_ranges: str, picture: dict | None = None, model: str | None = None
    ) -> tuple:
        """After an answer, for ranges that were changed while the model was at work -> notice, cards."""
        if state is None or state.age_ranges == age_ranges:
            return gr.skip(), gr.skip()
        return self.change_ranges(state, age_ranges, picture, model)[:2]

    def show_several(self, pictures: list[dict] | None, age_ranges: str, model: str | None = None) -> tuple:
        """-> gallery of drawn pictures with captions, table of all faces, state for other ranges."""
        paths, problem = _paths_of(pictures), self._problem_with(pictures)
        if problem:
            return message(problem, "problem"), "", SeveralState(model, paths, [])
        figures: list[str] = []
        rows: list[Row] = []
        for picture in pictures or ():
            name = str(picture.get("orig_name") or "picture")
            try:
                image_rgb = read_upload(picture)
                faces = self.served(model).pipeline(image_rgb, return_years=True)
            except AgeGenderError as error:  # the other pictures are answered all the same
                rows.append(Row(name, note=str(error)))
                continue
            drawn = draw_faces(Image.fromarray(image_rgb), faces)
            figures.append(figure(drawn, describe(faces), f"{name}: {texts.count_faces(len(faces))}"))
            rows += [Row(name, number, face) for number, face in enumerate(faces, start=1)]
            if not faces:
                rows.append(Row(name, note=texts.count_faces(0)))
        gallery = f'<div class="figures">{"".join(figures)}</div>'
        return gallery, self._table(rows, age_ranges, model)[1], SeveralState(model, paths, rows)

    def change_several_ranges(
        self, state: SeveralState | None, age_ranges: str, pictures: list[dict] | None, model: str | None = None
    ) -> tuple:
        """The same predictions in other ranges -> gallery, notice, table."""
        press = message(texts.PRESS_FIND) if pictures else ""
        if state is None:  # not asked yet, or expired
            return gr.skip(), press, gr.skip()
        if (state.model, state.paths) != (model, _paths_of(pictures)):  # changed, perhaps while the model was at work
            return "", press, ""
        notice, table = self._table(state.rows, age_ranges, model)
        return gr.skip(), notice, gr.skip() if notice else table

    def show_live(self, frame: dict | None, age_ranges: str, tracks: Tracks | None, model: str | None = None) -> tuple:
        """Answer for one frame, a data URL as `url` -> layer over the video, cards, tracks for the next frame."""
        if frame is None:
            return gr.skip(), gr.skip(), tracks
        try:
            frame_rgb = read_frame(frame)
            served = self.served(model)
            pipe = served.pipeline
            if tracks is None or tracks.model != served.name:
                tracks = Tracks(served.name)
            ranges, problem = _ranges_or_default(age_ranges, pipe.model.config.max_age)
            numbers, logits = tracks.smooth(pipe.forward(pipe.preprocess(frame_rgb)))
        except AgeGenderError as error:
            return "", message(str(error), "problem"), tracks
        faces = pipe.postprocess(logits, age_ranges=ranges)
        cards = _cards(served, faces, numbers) if faces else message(texts.NO_FACE_LIVE)
        return overlay_svg(logits.prepared.size_wh, numbers, faces), problem + cards, tracks

    def _problem_with(self, pictures: list[dict] | None) -> str:
        if not pictures:
            return texts.NO_PICTURES
        if not isinstance(pictures, list) or not all(isinstance(picture, dict) for picture in pictures):
            return "Expected a list of picture files; something else came. Upload them."
        if len(pictures) > self.max_pictures:
            return texts.TOO_MANY_PICTURES.format(most=self.max_pictures, chosen=len(pictures))
        return ""

    def _table(self, rows: list[Row], age_ranges: str, model: str | None) -> tuple[str, str]:
        """-> a notice if the ranges cannot be read; table."""
        try:
            max_age = self.served(model).pipeline.model.config.max_age
            ranges = read_ranges(age_ranges, max_age)
        except AgeGenderError as error:
            return message(str(error), "problem"), ""
        return "", answers_table([replace(row, face=row.face and rebin(row.face, ranges, max_age)) for row in rows])


def ask_for_whole(picture: dict | None) -> tuple:
    """-> path of the picture that is one face as a whole, a new value by which the model is asked again."""
    return path_of(picture), time.monotonic()


def read_ranges(choice: str | None, max_age: int) -> list[list[int]]:
    """The ranges of a named set, or ranges as typed; nothing means `DEFAULT_RANGES`.

    Raises:
        AgeGenderError: the ranges are not text, are not understood, overlap or leave a gap.
    """
    if choice is not None and not isinstance(choice, str):
        raise AgeGenderError(f"Expected the age ranges as text, such as 0-17, 18+; got {type(choice).__name__}.")
    choice = (choice or "").strip() or DEFAULT_RANGES
    return parse_age_ranges(choice, max_age)


def rebin(face: dict[str, Any], ranges: list[list[int]], max_age: int) -> dict[str, Any]:
    """A copy of the pipeline's answer for one face in other ranges: its year probabilities summed, without the model."""
    if face["year_probabilities"] is None:  # the pipeline abstained
        return face
    (fields,) = age_range_fields(np.array([face["year_probabilities"]]), ranges, max_age)
    return {**face, **fields}


def _ranges_or_default(age_ranges: str, max_age: int) -> tuple[list[list[int]], str]:
    """-> the ranges asked for and "", or the default ones and a notice of what is wrong with those asked for."""
    try:
        return read_ranges(age_ranges, max_age), ""
    except AgeGenderError as error:
        return read_ranges(DEFAULT_RANGES, max_age), message(str(error), "problem")


def _no_answer(notice: str, state: PictureState | None, offer_whole: bool = False) -> PictureTab:
    return PictureTab(
        drawn=gr.update(value=None, visible=False),
        notice=notice,
        cards="",
        state=state,
        whole_button=gr.update(visible=offer_whole),
    )


def _cards(served: ServedModel, faces: list[dict[str, Any]], numbers: list[int] | None = None) -> str:
    config = served.pipeline.model.config
    return face_cards(numbers or range(1, len(faces) + 1), faces, config.interval_coverage, config.gender_threshold)


def _paths_of(pictures: list[dict] | None) -> list[str | None]:
    return [path_of(picture) for picture in pictures or []]
