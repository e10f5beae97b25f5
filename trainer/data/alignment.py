"""Align unaligned crops of faces to the training template, with the detector of the pipeline."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from datasets import DatasetDict, Features, Image, IterableDatasetDict, Value
from PIL import Image as PilImage

from model.configuration_age_gender import UTKFACE_LANDMARKS_XY
from model.face_alignment import align, resize_square
from model.face_detection import YUNET_FILE, YuNetDetector
from trainer.data.sources import load_row_picture
from trainer.devices import forkable_opencv


ALIGNMENT_VERSION = 4  # part of the cache key: raise it when the same pictures get other crops
CROP_SIDE = 160  # pixels: more than any recipe from scratch uses, and about what such sets show of a face

logger = logging.getLogger(__name__)


def align_faces(
    faces: DatasetDict | IterableDatasetDict, num_proc: int | None = None
) -> DatasetDict | IterableDatasetDict:
    """Replace every `image` by the aligned (160, 160) crop of its largest face.

    A picture without a detected face is resized as a whole: no labelled picture is lost, and the splits stay the same.
    `datasets` caches the crops, so that each picture is searched once.

    Args:
        faces: splits with the columns of `load_faces`.
        num_proc: processes that detect faces; a stream is aligned by the process that reads it.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    aligned = {}
    for name, split in faces.items():
        if isinstance(faces, IterableDatasetDict):
            aligned[name] = split.map(_align_row, features=Features(split.features | {"face_found": Value("bool")}))
            aligned[name] = aligned[name].remove_columns(["face_found"])
            continue
        features = Features(split.features | {"image": Image(decode=False), "face_found": Value("bool")})
        with forkable_opencv(num_proc):
            crops = split.map(
                _align_row,
                features=features,
                fn_kwargs={"version": ALIGNMENT_VERSION},
                num_proc=num_proc,
                desc=f"Aligning {name}",
            )
        missed = len(crops) - sum(crops["face_found"])
        if missed:
            logger.warning(f"No face detected in {missed} of the {len(crops)} pictures of {name}: each is used whole.")
        aligned[name] = crops.remove_columns(["face_found"])
    return type(faces)(aligned)


def _align_row(row: dict[str, Any], version: int = ALIGNMENT_VERSION) -> dict[str, Any]:
    image_rgb = load_row_picture(row)
    found = _detector().detect(image_rgb)
    if found:
        crop = align(image_rgb, max(found, key=lambda face: face.width), UTKFACE_LANDMARKS_XY, CROP_SIDE)
    else:
        crop = resize_square(image_rgb, CROP_SIDE)
    return {"image": PilImage.fromarray(crop), "face_found": bool(found)}


@cache
def _detector() -> YuNetDetector:
    return YuNetDetector(Path(__file__).parents[2] / "model" / YUNET_FILE)
