"""Fixtures that several test files of the data share."""

from pathlib import Path

import pandas as pd
import pytest

from trainer.data.arguments import DataArguments
from trainer.data.loading import read_pictures
from trainer.data.manifest import build_manifest


@pytest.fixture
def manifest_of(cache):
    """The manifest of a folder or archive, indexed by file name, which may occur more than once."""

    def build(path: Path, **options) -> pd.DataFrame:
        args = DataArguments(dataset=str(path), cache_dir=cache, **{"max_unusable_fraction": 0.5} | options)
        pictures = read_pictures(args)
        manifest = build_manifest(pictures, args, seed=0)
        assert len(manifest) == len(pictures), "every file has its row"
        assert (manifest["kept"] == (manifest["reason"] == "")).all()
        assert (manifest["kept"] == (manifest["split"] != "")).all()
        return manifest.set_index("file_name")

    return build
