"""What a visitor does becomes one pipeline call, and its answer becomes what the page shows. Nothing is kept or logged."""

from itertools import zip_longest

import gradio as gr
import numpy as np
from PIL import Image

from demo.cards import data_url, face_cards, figure, message, thumbnail
from demo.drawing import draw_faces, short_answer
from demo.looking import heat_over, looked_at
from demo.overlay import overlay_svg
from demo.ranges import read_ranges, rebin
from demo.serving import ServedModel
from demo.table import Row, answers_table
from demo.webcam import Tracks
from model.image_loading import load_rgb


MAX_LOOKED = 8  # faces whose maps are drawn: each takes as long as sixteen faces without one
CHOOSE = "Choose a picture: every face in it is marked here."
NO_FACE = (
    "No face was found. Faces that are very small, covered or turned far away are often missed: try another picture, or "
    "treat the whole picture as one face."
)


class Answers:
    """The page's handlers. An upload comes as Gradio's file dict (`path`, `orig_name`), so that bad files are met here."""

    def __init__(self, served: ServedModel, max_pictures: int):
        self.pipe = served.pipeline
        self.config = served.pipeline.model.config
        self.max_pictures = max_pictures

    def predict(self, picture: dict, detect: bool = True, age_ranges: str = "FairFace-9") -> list[dict]:
        """Guess the age and gender that every face in a picture appears to have.

        Args:
            picture: a picture file: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.
            detect: true finds the faces; false says that the picture is one face crop already.
            age_ranges: FairFace-9, DIT825-5, 14 ranges, 4 bins, or your own such as "0-17, 18-39, 40+".

        Returns:
            One object a face: box [x0, y0, x1, y1] in pixels of the upright picture, detection_score, age in years,
            age_interval [low, high], age_range, age_ranges {label: probability}, gender (a label or "unsure"),
            genders {label: probability}, abstained (null, or the reason for no answer).
        """
        try:
            return self._ask(_read(picture), age_ranges, detect=detect)
        except ValueError as error:
            # no traceback in the log: it would hold the picture's name
            raise gr.Error(str(error), title="This cannot be used", print_exception=False) from None

    def show(self, picture: dict | None, age_ranges: str, show_looked: bool = False, detect: bool = True) -> tuple:
        """-> drawn picture, notice, cards, faces kept for other ranges, the button for a picture without a face."""
        if picture is None:
            return _nothing(message(CHOOSE))
        try:
            image_rgb = _read(picture)
            faces = self._ask(image_rgb, age_ranges, detect=detect, return_years=True)
        except ValueError as error:
            return _nothing(message(str(error), "problem"))
        if not faces:
            return _nothing(message(NO_FACE, "problem"), offer_whole=True)
        image = Image.fromarray(image_rgb)
        faces = [{**face, "thumbnail": thumbnail(image, face["box"])} for face in faces]
        if show_looked:
            maps = self._looked_at(image_rgb, detect)
            faces = [{**face, "looked_at": of_face} for face, of_face in zip_longest(faces, maps)]
        drawn = gr.update(value=draw_faces(image, faces), alt_text=describe(faces), visible=True)
        return drawn, message(count_faces(faces)), self._cards(faces), faces, gr.update(visible=False)

    def show_whole(self, picture: dict | None, age_ranges: str, show_looked: bool = False) -> tuple:
        return self.show(picture, age_ranges, show_looked, detect=False)

    def change_ranges(self, faces: list[dict] | None, age_ranges: str) -> tuple:
        """-> notice, cards: the same prediction in other ranges, without asking the model again."""
        try:
            ranges = read_ranges(age_ranges, self.config.max_age)
        except ValueError as error:
            return message(str(error), "problem"), gr.skip()
        if not faces:
            return gr.skip(), gr.skip()
        return message(count_faces(faces)), self._cards([rebin(face, ranges, self.config.max_age) for face in faces])

    def show_several(self, pictures: list[dict] | None, age_ranges: str) -> tuple:
        """-> gallery of drawn pictures with captions, table of all faces with its CSV download."""
        pictures = pictures or []
        if len(pictures) > self.max_pictures:
            text = f"At most {self.max_pictures} pictures at once; you chose {len(pictures)}. Choose fewer."
            raise gr.Error(text, print_exception=False)
        figures, rows = [], []
        for picture in pictures:
            name = picture["orig_name"] or "picture"
            try:
                image_rgb = _read(picture)
                faces = self._ask(image_rgb, age_ranges)
            except ValueError as error:  # one bad file must not take the others' answers away
                rows.append(Row(name, None, None, str(error)))
                continue
            drawn = draw_faces(Image.fromarray(image_rgb), faces)
            figures.append(figure(drawn, describe(faces), f"{name}: {count_faces(faces)}"))
            rows += [Row(name, number, face, "") for number, face in enumerate(faces, start=1)]
            if not faces:
                rows.append(Row(name, None, None, "No face found."))
        return f'<div class="figures">{"".join(figures)}</div>', answers_table(rows)

    def show_live(self, frame_rgb: np.ndarray | None, age_ranges: str, tracks: Tracks | None) -> tuple:
        """-> layer over the video, cards, tracks for the next frame."""
        if frame_rgb is None:
            return gr.skip(), gr.skip(), tracks
        tracks = tracks or Tracks()
        try:
            ranges = read_ranges(age_ranges, self.config.max_age)
            numbers, outputs = tracks.steady(self.pipe.forward(self.pipe.preprocess(frame_rgb)))
        except ValueError as error:
            return "", message(str(error), "problem"), tracks
        faces = self.pipe.postprocess(outputs, age_ranges=ranges)
        height, width = frame_rgb.shape[:2]
        return overlay_svg((width, height), numbers, faces), self._cards(faces, numbers), tracks

    def _ask(self, image_rgb: np.ndarray, age_ranges: str, **options) -> list[dict]:
        return self.pipe(image_rgb, age_ranges=read_ranges(age_ranges, self.config.max_age), **options)

    def _looked_at(self, image_rgb: np.ndarray, detect: bool) -> list[dict[str, str]]:
        """For the first faces: what the answer was about -> picture as a data URL."""
        inputs = self.pipe.preprocess(image_rgb, detect=detect)
        return [
            {
                name: data_url(Image.fromarray(heat_over(crop, heat)))
                for name, heat in looked_at(self.pipe.model, pixels).items()
            }
            for crop, pixels in zip(inputs["crops"][:MAX_LOOKED], inputs["pixel_values"], strict=False)
        ]

    def _cards(self, faces: list[dict], numbers: list[int] | None = None) -> str:
        return face_cards(numbers or list(range(1, len(faces) + 1)), faces, self.config.interval_coverage)


def _read(picture: dict | None) -> np.ndarray:
    """Gradio has checked that the path is one of its own uploads, and downloaded what came as an address."""
    if picture is None or not picture["path"]:
        raise ValueError("Expected a picture file; none came. Upload one.")
    try:
        return load_rgb(picture["path"])
    except FileNotFoundError:
        raise ValueError("This picture has been deleted in the meantime. Choose it again.") from None


def _nothing(notice: str, offer_whole: bool = False) -> tuple:
    """The outputs of `show` without an answer."""
    return gr.update(value=None, visible=False), notice, "", None, gr.update(visible=offer_whole)


def count_faces(faces: list[dict]) -> str:
    return {0: "No face found.", 1: "1 face found."}.get(len(faces), f"{len(faces)} faces found.")


def describe(faces: list[dict]) -> str:
    """The drawn picture in words, for those who do not see it."""
    answers = [f"face {number}: {', '.join(short_answer(face))}" for number, face in enumerate(faces, start=1)]
    return f"Your picture. {count_faces(faces)} {'; '.join(answers)}"
