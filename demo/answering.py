"""What a visitor does becomes one pipeline call, and its answer becomes what the page shows. Nothing is kept or logged."""

import base64
from collections.abc import Sequence
from itertools import zip_longest

import gradio as gr
import numpy as np
from PIL import Image

from demo.cards import data_url, face_cards, figure, message, thumbnail
from demo.drawing import draw_faces, short_answer
from demo.looking import heat_over, looked_at
from demo.overlay import overlay_svg
from demo.ranges import DEFAULT_CHOICE, read_ranges, rebin
from demo.serving import ModelNotServable, ServedModel
from demo.table import Row, answers_table
from demo.webcam import Tracks
from model.image_loading import load_rgb
from model.pipeline_age_gender import AgeGenderPipeline


MAX_LOOKED = 8  # faces whose maps are drawn: each takes as long as sixteen faces without one
CHOOSE = "Choose a picture: every face in it is marked here."
NO_FACE = (
    "No face was found. Faces that are very small, covered or turned far away are often missed: try another picture, or "
    "treat the whole picture as one face."
)


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
            picture: an uploaded picture: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF. Other web addresses are not fetched.
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
            return self._ask(self.served(model), _read(picture), age_ranges, detect=detect)
        except (ValueError, ModelNotServable) as error:
            # no traceback in the log: it would hold the picture's name
            raise gr.Error(str(error), title="This cannot be used", print_exception=False) from None

    def show(
        self,
        picture: dict | None,
        age_ranges: str,
        show_looked: bool = False,
        model: str | None = None,
        as_whole: bool = False,
    ) -> tuple:
        """-> drawn picture, notice, cards, faces kept for other ranges, the button for a picture without a face, as_whole.

        Ranges that cannot be read are answered in the default ones, so that the answer is there when they are mended.
        """
        if picture is None:
            return _nothing(message(CHOOSE))
        try:
            served, image_rgb = self.served(model), _read(picture)
            problem = _problem_with(age_ranges, served)
            readable = DEFAULT_CHOICE if problem else age_ranges
            faces = self._ask(served, image_rgb, readable, detect=not as_whole, return_years=True)
        except (ValueError, ModelNotServable) as error:
            return _nothing(message(str(error), "problem"))
        if not faces:
            return _nothing(message(NO_FACE, "problem"), offer_whole=True)
        image = Image.fromarray(image_rgb)
        faces = [{**face, "thumbnail": thumbnail(image, face["box"])} for face in faces]
        if show_looked:
            maps = _looked_at(served.pipeline, image_rgb, detect=not as_whole)
            faces = [{**face, "looked_at": of_face} for face, of_face in zip_longest(faces, maps)]
        drawn = gr.update(value=draw_faces(image, faces), alt_text=describe(faces), visible=True)
        notice = message(problem, "problem") if problem else message(count_faces(faces))
        return drawn, notice, _cards(served, faces), faces, gr.update(visible=False), as_whole

    def show_whole(
        self, picture: dict | None, age_ranges: str, show_looked: bool = False, model: str | None = None
    ) -> tuple:
        return self.show(picture, age_ranges, show_looked, model, as_whole=True)

    def change_ranges(
        self, faces: list[dict] | None, age_ranges: str, picture: dict | None = None, model: str | None = None
    ) -> tuple:
        """-> notice, cards: the same prediction in other ranges, without asking the model again."""
        try:
            served = self.served(model)
            max_age = served.pipeline.model.config.max_age
            ranges = read_ranges(age_ranges, max_age)
        except (ValueError, ModelNotServable) as error:
            return message(str(error), "problem"), gr.skip()
        if not faces:
            return message(NO_FACE, "problem") if picture else message(CHOOSE), gr.skip()
        return message(count_faces(faces)), _cards(served, [rebin(face, ranges, max_age) for face in faces])

    def show_several(self, pictures: list[dict] | None, age_ranges: str, model: str | None = None) -> tuple:
        """-> gallery of drawn pictures with captions, table of all faces with its CSV download."""
        if not pictures:
            return message("Choose some pictures first.", "problem"), ""
        if len(pictures) > self.max_pictures:
            text = f"At most {self.max_pictures} pictures at once; you chose {len(pictures)}. Choose fewer."
            return message(text, "problem"), ""
        figures, rows = [], []
        for picture in pictures:
            name = picture["orig_name"] or "picture"
            try:
                image_rgb = _read(picture)
                faces = self._ask(self.served(model), image_rgb, age_ranges)
            except (ValueError, ModelNotServable) as error:  # one bad file must not take the others' answers away
                rows.append(Row(name, None, None, str(error)))
                continue
            drawn = draw_faces(Image.fromarray(image_rgb), faces)
            figures.append(figure(drawn, describe(faces), f"{name}: {count_faces(faces)}"))
            rows += [Row(name, number, face, "") for number, face in enumerate(faces, start=1)]
            if not faces:
                rows.append(Row(name, None, None, "No face found."))
        return f'<div class="figures">{"".join(figures)}</div>', answers_table(rows)

    def show_live(self, frame: dict | None, age_ranges: str, tracks: Tracks | None, model: str | None = None) -> tuple:
        """`frame`: a picture as a data URL (`url`). -> layer over the video, cards, tracks for the next frame."""
        if frame is None:
            return gr.skip(), gr.skip(), tracks
        try:
            frame_rgb = load_rgb(_decode_data_url(frame))
            served = self.served(model)
            pipe = served.pipeline
            if tracks is None or tracks.model != served.name:
                tracks = Tracks(served.name)
            ranges = read_ranges(age_ranges, pipe.model.config.max_age)
            numbers, outputs = tracks.steady(pipe.forward(pipe.preprocess(frame_rgb)))
        except (ValueError, ModelNotServable) as error:
            return "", message(str(error), "problem"), tracks
        faces = pipe.postprocess(outputs, age_ranges=ranges)
        height, width = frame_rgb.shape[:2]
        return overlay_svg((width, height), numbers, faces), _cards(served, faces, numbers), tracks

    def served(self, model: str | None) -> ServedModel:
        """Raises `ValueError` for a name that is not offered."""
        if model is None:
            return next(iter(self.models.values()))
        if not isinstance(model, str) or model not in self.models:
            raise ValueError(f"There is no such model here. Choose one of: {', '.join(self.models)}.")
        return self.models[model]

    def _ask(self, served: ServedModel, image_rgb: np.ndarray, age_ranges: str, **options) -> list[dict]:
        pipe = served.pipeline
        return pipe(image_rgb, age_ranges=read_ranges(age_ranges, pipe.model.config.max_age), **options)


def _looked_at(pipe: AgeGenderPipeline, image_rgb: np.ndarray, detect: bool) -> list[dict[str, str]]:
    """For the first faces: what the answer was about -> picture as a data URL."""
    inputs = pipe.preprocess(image_rgb, detect=detect)
    return [
        {name: data_url(Image.fromarray(heat_over(crop, heat))) for name, heat in looked_at(pipe.model, pixels).items()}
        for crop, pixels in zip(inputs["crops"][:MAX_LOOKED], inputs["pixel_values"], strict=False)
    ]


def _cards(served: ServedModel, faces: list[dict], numbers: list[int] | None = None) -> str:
    numbers = numbers or list(range(1, len(faces) + 1))
    return face_cards(numbers, faces, served.pipeline.model.config.interval_coverage)


def _read(picture: dict | None) -> np.ndarray:
    """Gradio has checked that the path is one of its own uploads."""
    if not isinstance(picture, dict) or not picture.get("path"):
        raise ValueError("Expected a picture file; none came. Upload one.")
    try:
        return load_rgb(picture["path"])
    except FileNotFoundError:
        raise ValueError("This picture has been deleted in the meantime. Choose it again.") from None


def _decode_data_url(frame: dict) -> bytes:
    """Gradio would decode it before anybody asked for its size."""
    head, mark, data = str(frame.get("url")).partition(";base64,")
    if not mark or not head.startswith("data:image/"):
        raise ValueError("Expected a webcam's picture as a data URL.")
    return base64.b64decode(data)


def _problem_with(age_ranges: str, served: ServedModel) -> str | None:
    """What is wrong with ranges as typed."""
    try:
        read_ranges(age_ranges, served.pipeline.model.config.max_age)
    except ValueError as error:
        return str(error)
    return None


def _nothing(notice: str, offer_whole: bool = False) -> tuple:
    """The outputs of `show` without an answer."""
    return gr.update(value=None, visible=False), notice, "", None, gr.update(visible=offer_whole), False


def count_faces(faces: list[dict]) -> str:
    return {0: "No face found.", 1: "1 face found."}.get(len(faces), f"{len(faces)} faces found.")


def describe(faces: list[dict]) -> str:
    """The drawn picture in words, for those who do not see it."""
    answers = [f"face {number}: {', '.join(short_answer(face))}" for number, face in enumerate(faces, start=1)]
    return f"Your picture. {count_faces(faces)} {'; '.join(answers)}"
