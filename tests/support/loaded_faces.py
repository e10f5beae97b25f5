"""The faces that the tests of the data load, and what they ask of them."""

import pandas as pd
from datasets import DatasetDict

from tests.support.faces_on_disk import face_files
from trainer.data.loading import DataArguments, read_pictures
from trainer.data.manifest import build_manifest


FILES = face_files(60)


def manifest_of(args: DataArguments, seed: int = 0) -> pd.DataFrame:
    return build_manifest(read_pictures(args), args, seed).set_index("file_name")


def rows_of(faces: DatasetDict) -> dict[str, list]:
    """What can be told without the file names: the same for the same pictures from anywhere."""
    return {
        split: list(zip(rows["group"], rows["age"], rows["gender"], rows["race"], strict=True))
        for split, rows in faces.items()
    }
