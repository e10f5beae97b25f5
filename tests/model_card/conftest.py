"""A finished run that was never trained, for the tests of its card."""

import shutil
from pathlib import Path

import pytest

from tests.support.made_up_run import write_made_up_run


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("outputs") / "run"
    return write_made_up_run(folder)


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
