"""The rows of every source: an undecoded picture, its labels, and what is wrong with it; and how a row's picture is decoded and
aligned to the training template, with the detector of the pipeline.
"""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict, Features, Image, IterableDatasetDict, Value
from PIL import Image as PilImage

from model.configuration_age_gender import UTKFACE_LANDMARKS_XY
from model.face_alignment import align, resize_square
from model.face_detection import YUNET_FILE, YuNetDetector
from model.image_loading import PictureError, load_rgb
from trainer.devices import forkable_opencv


LABEL_FEATURES = {
    "age": Value("int32"),
    "age_low": Value("int32"),
    "age_high": Value("int32"),
    "gender": Value("int8"),
    "race": Value("string"),
}
ROW_FEATURES = {"file_name": Value("string"), **LABEL_FEATURES, "problem": Value("string")}
FEATURES = Features({"image": Image(decode=False), **ROW_FEATURES})
EXPECTED = "a folder, a .tar.gz, .tgz, .tar or .zip of pictures, or a Hub id such as nu-delta/utkface"
NO_PICTURE = "no picture: neither in the row nor a file of the set's own folder"

ALIGNMENT_VERSION = 4  # part of the cache key: raise it when the same pictures get other crops
CROP_SIDE = 160  # pixels: more than any recipe from scratch uses, and about what such sets show of a face
logger = logging.getLogger(__name__)


def load_row_picture(row: dict[str, Any]) -> np.ndarray:
    """Decode the `image` of a row: {"bytes", "path"} as every source gives it, or what `load_rgb` takes.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        PictureError: it cannot be used, as may happen in a set prepared elsewhere; begins with the row's `file_name`.
    """
    image = row["image"]
    if image is None:  # in a set prepared elsewhere
        raise PictureError(f"{row['file_name']}: {NO_PICTURE}.")
    try:
        if isinstance(image, dict):
            image = image["path"] if image["bytes"] is None else image["bytes"]
        return load_rgb(image)
    except PictureError as error:
        raise PictureError(f"{row['file_name']}: {error}") from error


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
