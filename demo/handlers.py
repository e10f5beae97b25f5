"""What the page asks of a model: each handler is one pipeline call, whose answer the page's JavaScript shows.

Handlers log nothing and keep nothing. Only the tracks of a live webcam stay with the visitor's session, in Gradio.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from demo.answer_pictures import add_saliency_maps, data_url, preview
from demo.fair_use import TURNS, TooOftenError, kind_of, visitor
from demo.serving import ServedModel
from demo.settings import DEFAULT_RANGES
from demo.tracking import Tracks
from demo.uploads import read_bytes, read_frame
from model.configuration_age_gender import parse_age_ranges
from model.errors import AgeGenderError
from model.face_alignment import Face
from model.pipeline_age_gender import AgeGenderPipeline
from model.prepared_faces import PreparedFaces


YEAR_DIGITS = 6  # of a year's probability in an answer: enough for the curve and for every sum of years


class Handlers:
    """`model` is always the name of one of `models`; None stands for the first.

    `running` bounds how many predictions run at the same time, webcams aside, whoever asks for them.
    """

    def __init__(self, models: Sequence[ServedModel], concurrency: int):
        self.models = {served.name: served for served in models}
        self.running = threading.BoundedSemaphore(concurrency)

    def served(self, model: object) -> ServedModel:
        """Raises `AgeGenderError` for a name that is not offered."""
        if model is None:
            return next(iter(self.models.values()))
        if not isinstance(model, str) or model not in self.models:
            raise AgeGenderError(f"There is no such model here. Choose one of: {', '.join(self.models)}.")
        return self.models[model]

    def predict(
        self, image_rgb: np.ndarray, detect: bool, age_ranges: str | None, model: str | None
    ) -> list[dict[str, Any]]:
        """The pipeline's answer to a program.

        Args:
            image_rgb: (H, W, 3) uint8, decoded by `demo.uploads`: a file that was decoded here could hold up the demo.

        Raises:
            AgeGenderError: the flag, the ranges or the model's name cannot be used.
        """
        if not isinstance(detect, bool):
            raise AgeGenderError(f"Expected detect as true or false; got {type(detect).__name__}.")
        pipe = self.served(model).pipeline
        ranges = read_ranges(age_ranges, pipe.model.config.max_age)
        with self._turn():
            return pipe(image_rgb, detect=detect, age_ranges=ranges)

    def show(
        self,
        picture: bytes,
        detect: bool = True,
        model: str | None = None,
        with_saliency: bool = False,
        with_preview: bool = False,
    ) -> dict[str, Any]:
        """The answer to the page: every face with the probability of each year, from which the page makes its ranges.

        Args:
            with_preview: add the picture itself, for a browser that cannot show its format.

        Raises:
            AgeGenderError: the picture cannot be read, or the model is not offered.
        """
        pipe = self.served(model).pipeline
        image_rgb = read_bytes(picture)
        with self._turn():
            prepared = pipe.preprocess(image_rgb, detect=detect)
            faces = pipe.postprocess(pipe.forward(prepared), return_years=True)
            if with_saliency:
                faces = add_saliency_maps(pipe.model, prepared, faces)
            answer = _answer(pipe, prepared, faces)
            if with_preview:
                answer["preview"] = data_url(preview(Image.fromarray(image_rgb)))
        return answer

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold one of the places to run, and add the processor time of the block to the visitor's debt."""
        key, asked = visitor.get().key, time.monotonic()
        with self.running:
            TURNS.note_wait(key, time.monotonic() - asked)
            started = time.thread_time()  # not wall time: pictures of others may have the processor meanwhile
            try:
                yield
            finally:
                TURNS.spend(key, time.thread_time() - started)

    def show_live(self, frame: dict | None, tracks: Tracks | None, model: str | None = None) -> tuple:
        """Answer for one frame, a data URL as `url` -> the answer for the page, tracks for the next frame."""
        try:
            served = self.served(model)
            frame_rgb = read_frame(frame)
            if tracks is None or tracks.model != served.name:
                tracks = Tracks(served.name)
            pipe = served.pipeline
            numbers, logits = tracks.smooth(pipe.forward(pipe.preprocess(frame_rgb)))
        except AgeGenderError as error:
            waiting = {"wait_seconds": error.wait_seconds} if isinstance(error, TooOftenError) else {}
            return {"problem": str(error), "kind": kind_of(error), **waiting}, tracks
        faces = pipe.postprocess(logits, return_years=True)
        numbered = [{**face, "number": number} for face, number in zip(faces, numbers, strict=True)]
        return _answer(pipe, logits.prepared, numbered), tracks


def read_ranges(choice: str | None, max_age: int) -> list[list[int]]:
    """The ranges of a named set, or ranges as typed; nothing means `DEFAULT_RANGES`.

    Raises:
        AgeGenderError: the ranges are not text, are not understood, overlap or leave a gap.
    """
    if choice is not None and not isinstance(choice, str):
        raise AgeGenderError(f"Expected the age ranges as text, such as 0-17, 18+; got {type(choice).__name__}.")
    return parse_age_ranges((choice or "").strip() or DEFAULT_RANGES, max_age)


def _answer(pipe: AgeGenderPipeline, prepared: PreparedFaces, faces: list[dict[str, Any]]) -> dict[str, Any]:
    """What the JavaScript in web/ shows of one picture: its faces, and what the model's configuration says of answers."""
    config = pipe.model.config
    return {
        "size_wh": list(prepared.size_wh),
        "faces": [_shown(*pair, config.min_face_pixels) for pair in zip(faces, prepared.faces, strict=True)],
        "max_age": config.max_age,
        "interval_coverage": config.interval_coverage,
        "gender_threshold": config.gender_threshold,
        "min_face_pixels": config.min_face_pixels,
    }


def _shown(answer: dict[str, Any], face: Face, min_face_pixels: int) -> dict[str, Any]:
    """The pipeline's answer for a face as the page gets it.

    `abstained_key` is the page's text for the reason of `why_no_answer`. The box of an answer ends at the picture's edge and
    would not tell it: a face that is cut off there may be large enough.
    """
    years, key = answer["year_probabilities"], None
    if years is not None:
        years = [round(share, YEAR_DIGITS) for share in years]
    if answer["abstained"]:
        key = "too_small" if face.width < min_face_pixels else "which_way_up"
    return {**answer, "year_probabilities": years, "abstained_key": key}
