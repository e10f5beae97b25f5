"""Fixtures that several test files of the data share."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.faces_on_disk import utkface_like, write_archive
from trainer.data.arguments import DataArguments
from trainer.data.manifest import build_manifest
from trainer.data.preparation import PrepareArguments, prepare_data
from trainer.data.sources import read_pictures


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


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> DataArguments:
    """UTKFace with all its flaws, as its authors give it."""
    folder = tmp_path_factory.mktemp("raw")
    archive = write_archive(folder / "UTKFace.tar.gz", utkface_like().items())
    return DataArguments(dataset=str(archive), cache_dir=str(folder / "cache"))


@pytest.fixture(scope="session")
def prepared(raw, tmp_path_factory) -> Path:
    """The folder that `scripts.prepare_data` makes of it; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared") / "faces"
    prepare_data(PrepareArguments(output_dir=str(folder), shard_size=20), raw)
    return folder
