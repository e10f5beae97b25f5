"""Faces among which the tests of bad input put what is damaged, and the error that a whole set of it is."""

from pathlib import Path

import pytest

from tests.support.faces_on_disk import as_jpeg, draw_detailed_face, face_files
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces


FILES = face_files(40)
PICTURE = as_jpeg(draw_detailed_face(1, size=48))
OTHER = as_jpeg(draw_detailed_face(2, size=48))


def error_of(path: Path, cache: str, **options) -> str:
    with pytest.raises(DatasetError) as error:
        load_faces(DataArguments(dataset=str(path), cache_dir=cache, **options), seed=0)
    return str(error.value)
