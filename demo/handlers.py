"""What a visitor does becomes one pipeline call, and its answer becomes what the page shows. Nothing is kept or logged."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import gradio as gr
import numpy as np
from PIL import Image

from demo.rendering import data_url, draw_faces, face_cards, figure, message, overlay_svg, short_answer, thumbnail
from demo.saliency import heat_over, looked_at
from demo.serving import ModelNotServable, ServedModel
from demo.table import Row, answers_table
from demo.tracking import Tracks
from demo.uploads import Deleted, path_of, read_frame, read_upload
from model.configuration_age_gender import RANGE_SETS, age_range_label, parse_age_ranges
from model.decoding_age_gender import range_probabilities
from model.pipeline_age_gender import AgeGenderPipeline, PreparedFaces


CHOICES = [(f"{name}: {ranges}", name) for name, ranges in RANGE_SETS.items()]
DEFAULT_CHOICE = "FairFace-9"


def read_ranges(choice: str | None, max_age: int) -> list[list[int]]:
    """The name of a set, or ranges as typed; nothing means FairFace-9.

    Raises:
        ValueError: the ranges are no text, are not understood, overlap or leave a gap.
    """
    if choice is not None and not isinstance(choice, str):
        raise ValueError(f"Expected the age ranges as text, such as 0-17, 18+; got {type(choice).__name__}.")
    choice = (choice or "").strip() or DEFAULT_CHOICE
    return parse_age_ranges(RANGE_SETS.get(choice, choice), max_age)


def rebin(face: dict, ranges: list[list[int]], max_age: int) -> dict:
    """A copy of the pipeline's answer for one face with its years summed into other ranges; exact, without the model."""
    if face["year_probabilities"] is None:  # the pipeline abstained
        return face
    probabilities = range_probabilities(np.array([face["year_probabilities"]]), ranges)[0]
    labels = [age_range_label(low, high, max_age) for low, high in ranges]
    return {
        **face,
        "age_range": labels[int(probabilities.argmax())],
        "age_ranges": dict(zip(labels, probabilities.tolist(), strict=True)),
    }


MAX_LOOKED = 8  # faces whose maps are drawn: each takes as long as sixteen faces without one
FIND = "Find the faces"
CHOOSE = "Choose a picture: every face in it is marked here."
NO_FACE = (
    "No face was found. Faces that are very small, covered or turned far away are often missed: try another picture, or "
    "treat the whole picture as one face."
)
BUSY = "No answer this time. The demo may be busy, or you asked too often: try again in a moment, or reload the page."
NO_FACE_LIVE = "No face in sight. Come closer, or into the light."


@dataclass(frozen=True)
class Kept:
    """What the Picture tab shows: `path` of the picture, the ranges asked for, what was said, and the faces found."""

    path: str | None
    model: str | None
    age_ranges: str
    notice: str
    faces: list[dict]


@dataclass(frozen=True)
class KeptRows:
    """What the Several tab shows: the rows of its table, and the model and the pictures' paths that they came from."""

    model: str | None
    paths: list[str | None]
    rows: list[Row]


class Answers:
    """The page's handlers. An upload comes as Gradio's file dict (`path`, `orig_name`), so that bad files are met here.

    `model` is the name of one of `models`; None stands for the first.
    """

    def __init__(self, models: Sequence[ServedModel], max_pictures: int):
        self.models = {served.name: served for served in models}
        self.max_pictures = max_pictures

    def predict(
        self, picture: dict, detect: bool = True, age_ranges: str = DEFAULT_CHOICE, model: str | None = None
    ) -> list[dict]:
        """Guess the age and gender that every face in a picture appears to have.

        Args:
            picture: an uploaded JPEG, PNG, WebP, HEIC, GIF, BMP, TIFF or AVIF. Web addresses are not fetched; upload the file.
            detect: true finds the faces; false says that the picture is one face crop already.
            age_ranges: FairFace-9, DIT825-5, 14 ranges, 4 bins, or your own such as "0-17, 18-39, 40+".
            model: which of the models offered.

        Returns:
            One object a face: box [x0, y0, x1, y1] in pixels of the upright picture, detection_score, age in years,
            age_interval [low, high], age_range, age_ranges {label: probability}, gender (a label or "unsure"),
            genders {label: probability}, abstained (null, or the reason for no answer).
        """
        try:
            if not isinstance(detect, bool):
                raise ValueError(f"Expected detect as true or false; got {type(detect).__name__}.")
            pipe = self.served(model).pipeline
            image_rgb, ranges = read_upload(picture), read_ranges(age_ranges, pipe.model.config.max_age)
            return pipe(image_rgb, detect=detect, age_ranges=ranges)
        except (ValueError, ModelNotServable) as error:
            # no traceback in the log: it would hold the picture's name
            raise gr.Error(str(error), title="This cannot be used", print_exception=False) from None

    def show(
        self,
        picture: dict | None,
        age_ranges: str,
        show_looked: bool = False,
        model: str | None = None,
        whole_path: str | None = None,
    ) -> tuple:
        """-> drawn picture, notice, cards, what is kept for other ranges, the button for a picture without a face.

        `whole_path`: of the picture that is one face as a whole. Ranges that cannot be read are answered in the default
        ones, so that the answer is there when they are mended.
        """
        if picture is None:
            return _nothing(message(CHOOSE), None)
        path = path_of(picture)
        kept = Kept(path, model, age_ranges, message(NO_FACE, "problem"), [])
        try:
            served, image_rgb = self.served(model), read_upload(picture)
            pipe = served.pipeline
            ranges, problem = _ranges_or_default(age_ranges, pipe.model.config.max_age)
            prepared = pipe.preprocess(image_rgb, detect=path != whole_path)
            faces = pipe.postprocess(pipe.forward(prepared), age_ranges=ranges, return_years=True)
        except Deleted as error:  # what it was answered may still be there to read
            notice = message(str(error), "problem")
            return gr.skip(), notice, gr.skip(), None, gr.update(visible=False)  # else `catch_up` writes over it
        except (ValueError, ModelNotServable) as error:
            kept = replace(kept, notice=message(str(error), "problem"))
            return _nothing(kept.notice, kept)
        if not faces:
            return _nothing(kept.notice, kept, offer_whole=True)
        image = Image.fromarray(image_rgb)
        faces = [{**face, "thumbnail": thumbnail(image, face["box"])} for face in faces]
        said = count_faces(faces)
        if show_looked:
            faces = _with_maps(pipe, prepared, faces)
            if sum(not face["abstained"] for face in faces) > MAX_LOOKED:
                said += f" Where the model looked is shown for the first {MAX_LOOKED} of them."
        drawn = gr.update(value=draw_faces(image, faces), alt_text=describe(faces), visible=True)
        kept = replace(kept, notice=message(said), faces=faces)
        notice = problem or kept.notice
        return drawn, notice, _cards(served, faces), kept, gr.update(visible=False)

    def refused(self, kept: Kept | None, picture: dict | None = None, model: str | None = None) -> tuple:
        """-> as `show`, where its question was turned away at the door or by a full queue, and nobody has read it.

        An answer that belongs to the same picture stays; one to an earlier picture would be taken for this one's.
        """
        if picture is None:
            return _nothing(message(CHOOSE), None)
        notice = message(BUSY, "problem refused")  # page.css shows a button with it
        if kept is not None and (kept.path, kept.model) == (path_of(picture), model):
            return gr.skip(), notice, gr.skip(), gr.skip(), gr.skip()
        return _nothing(notice, None)

    def change_ranges(
        self, kept: Kept | None, age_ranges: str, picture: dict | None = None, model: str | None = None
    ) -> tuple:
        """-> notice, cards, a new value where the model must be asked again: the same prediction in other ranges."""
        try:
            served = self.served(model)
            max_age = served.pipeline.model.config.max_age
            ranges = read_ranges(age_ranges, max_age)
        except (ValueError, ModelNotServable) as error:
            return message(str(error), "problem"), gr.skip(), gr.skip()
        if picture is None:
            return message(CHOOSE), gr.skip(), gr.skip()
        if kept is None:  # forgotten meanwhile, or not there yet
            return gr.skip(), gr.skip(), time.monotonic()
        if (kept.path, kept.model) != (path_of(picture), model):  # the model is at work; `catch_up` comes after it
            return gr.skip(), gr.skip(), gr.skip()
        if not kept.faces:
            return kept.notice, gr.skip(), gr.skip()
        cards = _cards(served, [rebin(face, ranges, max_age) for face in kept.faces])
        return kept.notice, cards, gr.skip()

    def catch_up(
        self, kept: Kept | None, age_ranges: str, picture: dict | None = None, model: str | None = None
    ) -> tuple:
        """-> notice, cards: after an answer, for ranges that were changed while the model worked."""
        if kept is None or kept.age_ranges == age_ranges:
            return gr.skip(), gr.skip()
        return self.change_ranges(kept, age_ranges, picture, model)[:2]

    def show_several(self, pictures: list[dict] | None, age_ranges: str, model: str | None = None) -> tuple:
        """-> gallery of drawn pictures with captions, table of all faces with its CSV download, rows kept for other ranges."""
        paths, problem = _paths_of(pictures), self._problem_with(pictures)
        if problem:
            return message(problem, "problem"), "", KeptRows(model, paths, [])
        figures, rows = [], []
        for picture in pictures:
            name = str(picture.get("orig_name") or "picture")
            try:
                image_rgb = read_upload(picture)
                faces = self.served(model).pipeline(image_rgb, return_years=True)
            except (ValueError, ModelNotServable) as error:  # one bad file must not take the others' answers away
                rows.append(Row(name, note=str(error)))
                continue
            drawn = draw_faces(Image.fromarray(image_rgb), faces)
            figures.append(figure(drawn, describe(faces), f"{name}: {count_faces(faces)}"))
            rows += [Row(name, number, face) for number, face in enumerate(faces, start=1)]
            if not faces:
                rows.append(Row(name, note="No face found."))
        gallery = f'<div class="figures">{"".join(figures)}</div>'
        return gallery, self._table(rows, age_ranges, model)[1], KeptRows(model, paths, rows)

    def change_several_ranges(
        self, kept: KeptRows | None, age_ranges: str, pictures: list[dict] | None, model: str | None = None
    ) -> tuple:
        """-> gallery, notice, table: the same predictions in other ranges."""
        press = message(f"Press “{FIND}” to see the answer.") if pictures else ""
        if kept is None:  # not asked yet, or forgotten meanwhile
            return gr.skip(), press, gr.skip()
        if (kept.model, kept.paths) != (model, _paths_of(pictures)):  # changed, perhaps while the model was at work
            return "", press, ""
        notice, table = self._table(kept.rows, age_ranges, model)
        return gr.skip(), notice, gr.skip() if notice else table

    def show_live(self, frame: dict | None, age_ranges: str, tracks: Tracks | None, model: str | None = None) -> tuple:
        """`frame`: a picture as a data URL (`url`). -> layer over the video, cards, tracks for the next frame."""
        if frame is None:
            return gr.skip(), gr.skip(), tracks
        try:
            frame_rgb = read_frame(frame)
            served = self.served(model)
            pipe = served.pipeline
            if tracks is None or tracks.model != served.name:
                tracks = Tracks(served.name)
            ranges, problem = _ranges_or_default(age_ranges, pipe.model.config.max_age)
            numbers, logits = tracks.steady(pipe.forward(pipe.preprocess(frame_rgb)))
        except (ValueError, ModelNotServable) as error:
            return "", message(str(error), "problem"), tracks
        faces = pipe.postprocess(logits, age_ranges=ranges)
        height, width = frame_rgb.shape[:2]
        cards = _cards(served, faces, numbers) if faces else message(NO_FACE_LIVE)
        return overlay_svg((width, height), numbers, faces), problem + cards, tracks

    def served(self, model: str | None) -> ServedModel:
        """Raises `ValueError` for a name that is not offered."""
        if model is None:
            return next(iter(self.models.values()))
        if not isinstance(model, str) or model not in self.models:
            raise ValueError(f"There is no such model here. Choose one of: {', '.join(self.models)}.")
        return self.models[model]

    def _problem_with(self, pictures: list[dict] | None) -> str:
        if not pictures:
            return "Choose some pictures first."
        if not isinstance(pictures, list) or not all(isinstance(picture, dict) for picture in pictures):
            return "Expected a list of picture files; something else came. Upload them."
        if len(pictures) > self.max_pictures:
            return f"At most {self.max_pictures} pictures at once; you chose {len(pictures)}. Choose fewer."
        return ""

    def _table(self, rows: list[Row], age_ranges: str, model: str | None) -> tuple[str, str]:
        """-> what is wrong with the ranges, if anything; table."""
        try:
            max_age = self.served(model).pipeline.model.config.max_age
            ranges = read_ranges(age_ranges, max_age)
        except (ValueError, ModelNotServable) as error:
            return message(str(error), "problem"), ""
        return "", answers_table([replace(row, face=row.face and rebin(row.face, ranges, max_age)) for row in rows])


def _with_maps(pipe: AgeGenderPipeline, prepared: PreparedFaces, faces: list[dict]) -> list[dict]:
    """The first faces that have an answer get `looked_at`: what the answer was about -> picture as a data URL."""
    faces = list(faces)
    for index in [index for index, face in enumerate(faces) if not face["abstained"]][:MAX_LOOKED]:
        crop, maps = prepared.crops[index], looked_at(pipe.model, prepared.pixel_values[index])
        pictures = {name: data_url(Image.fromarray(heat_over(crop, heat))) for name, heat in maps.items()}
        faces[index] = {**faces[index], "looked_at": pictures}
    return faces


def _cards(served: ServedModel, faces: list[dict], numbers: list[int] | None = None) -> str:
    numbers = numbers or list(range(1, len(faces) + 1))
    config = served.pipeline.model.config
    return face_cards(numbers, faces, config.interval_coverage, config.gender_threshold)


def ask_for_whole(picture: dict | None) -> tuple:
    """-> path of the picture that is one face as a whole, a new value by which the model is asked again."""
    return path_of(picture), time.monotonic()


def _paths_of(pictures: list[dict] | None) -> list[str | None]:
    return [path_of(picture) for picture in pictures or []]


def _ranges_or_default(age_ranges: str, max_age: int) -> tuple[list[list[int]], str]:
    """-> the ranges asked for and "", or the default ones and a notice of what is wrong with those."""
    try:
        return read_ranges(age_ranges, max_age), ""
    except ValueError as error:
        return read_ranges(DEFAULT_CHOICE, max_age), message(str(error), "problem")


def _nothing(notice: str, kept: Kept | None, offer_whole: bool = False) -> tuple:
    """The outputs of `show` without an answer."""
    return gr.update(value=None, visible=False), notice, "", kept, gr.update(visible=offer_whole)


def count_faces(faces: list[dict]) -> str:
    return {0: "No face found.", 1: "1 face found."}.get(len(faces), f"{len(faces)} faces found.")


def describe(faces: list[dict]) -> str:
    """The drawn picture in words, for those who do not see it."""
    answers = [f"face {number}: {', '.join(short_answer(face))}" for number, face in enumerate(faces, start=1)]
    return f"Your picture. {count_faces(faces)} {'; '.join(answers)}"
