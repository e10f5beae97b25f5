"""The faces of one picture as they pass through the pipeline, and what its answers say of them beside age and gender."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .errors import AgeGenderError
from .face_alignment import Face


@dataclass(frozen=True, eq=False)
class PictureWithBoxes:
    """A picture whose faces were found elsewhere. No row of a dataset is one, whatever its columns are called."""

    picture: Any
    boxes: Sequence


def pair_with_boxes(inputs: Any, boxes: Sequence) -> Any:
    """The picture with its boxes; of a list of pictures, each with the boxes of its own.

    Raises:
        AgeGenderError: a list of pictures has more or fewer lists of boxes.
    """
    if not isinstance(inputs, list):
        return PictureWithBoxes(inputs, boxes)
    if len(boxes) != len(inputs):
        raise AgeGenderError(
            f"Expected one list of boxes a picture; got {len(boxes)} lists for {len(inputs)} pictures."
        )
    return [PictureWithBoxes(picture, of) for picture, of in zip(inputs, boxes, strict=True)]


@dataclass(frozen=True, eq=False)
class PreparedFaces:
    """What `AgeGenderPipeline.preprocess` makes of one picture with N faces.

    pixel_values: (N, 3, S, S), normalised, on the CPU.
    faces: N, in the order of the answers.
    crops: N aligned crops, (S, S, 3) uint8 RGB each, from which `pixel_values` were computed.
    size_wh: width and height of the upright picture in pixels.
    """

    pixel_values: torch.Tensor
    faces: list[Face]
    crops: list[np.ndarray]
    size_wh: tuple[int, int]


@dataclass(frozen=True, eq=False)
class FaceLogits:
    """What `AgeGenderPipeline.forward` computes for one picture with N faces: float64 on the CPU.

    age_logits: (N, max_age + 1), one a year.
    gender_logits: (N, genders).
    """

    prepared: PreparedFaces
    age_logits: torch.Tensor
    gender_logits: torch.Tensor


def describe_face(face: Face, picture_wh: tuple[int, int]) -> dict[str, Any]:
    """The fields `box`, within the picture, `detection_score` and `roll_degrees` of an answer."""
    box = np.clip(np.rint(face.box_xyxy), 0, np.tile(picture_wh, 2)).astype(int).tolist()
    roll_degrees = None if face.roll_degrees is None else round(face.roll_degrees)
    return {"box": box, "detection_score": face.score, "roll_degrees": roll_degrees}


def why_no_answer(face: Face, min_face_pixels: int) -> str | None:
    """The field `abstained` of an answer: a sentence, or None for a face that is large enough and surely upright."""
    if face.width < min_face_pixels:
        return f"The face is {face.width:.0f} pixels wide; at least {min_face_pixels} are needed."
    if not face.is_roll_certain:
        return "It is not certain which way up the face is. Turn the picture upright."
    return None
