"""The faces that the tests of the data load, and their manifest and labels for comparison."""

import pandas as pd
from datasets import DatasetDict, Features, Image, Value

from tests.support.faces_on_disk import face_files
from trainer.data.arguments import DataArguments
from trainer.data.manifest import build_manifest
from trainer.data.sources import read_pictures


FILES = face_files(60)
PREPARED_FEATURES = Features(  # of what `load_faces` returns and `scripts.prepare_data` writes
    image=Image(decode=False),
    age=Value("int32"),
    gender=Value("int8"),
    race=Value("string"),
    file_name=Value("string"),
    group=Value("string"),
)


def manifest_of(args: DataArguments, seed: int = 0) -> pd.DataFrame:
    return build_manifest(read_pictures(args), args, seed).set_index("file_name")


def rows_of(faces: DatasetDict) -> dict[str, list]:
    """Group and labels of every row in order: the same for the same pictures from any source."""
    return {
        split: list(zip(rows["group"], rows["age"], rows["gender"], rows["race"], strict=True))
        for split, rows in faces.items()
    }
