"""The demo's own folder: old files go, young ones and other programs' stay, and at the end nothing is left."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.cleaning_up import cleaned_up, own_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = own_folder()
    assert folder.parent == tmp_path
    folder.mkdir()
    return folder


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture")
    return path


def soon(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def test_what_comes_is_deleted_with_its_folder_and_the_pages_own_stays(folder: Path):
    example = write(folder / "hash" / "example.jpg")
    with cleaned_up(folder, keep_seconds=1):
        half_sent, picture = write(folder / "tmp1"), write(folder / "hash2" / "a.jpg")
        assert soon(lambda: not half_sent.exists() and not picture.parent.exists())
        young = write(folder / "hash" / "young.jpg")
        time.sleep(0.2)
        assert young.exists()
        assert example.exists()
    assert not folder.exists()


def test_what_a_killed_demo_left_is_deleted_and_nobody_elses_files_are(folder: Path):
    dead, alive = write(own_folder() / "hash" / "a.jpg"), write(own_folder() / "hash" / "a.jpg")
    other, linked = write(folder.parent / "other-app" / "a.jpg"), write(folder.parent / "elsewhere" / "a.jpg")
    link = folder.parent / "age-gender-demo-link"
    link.symlink_to(linked.parent)
    an_hour_ago = time.time() - 3600
    for path in (dead.parents[1], other, other.parent, linked, linked.parent):
        os.utime(path, (an_hour_ago, an_hour_ago))
    os.utime(link, (an_hour_ago, an_hour_ago), follow_symlinks=False)
    with cleaned_up(folder, keep_seconds=600):
        assert soon(lambda: not dead.parents[1].exists())
    assert alive.exists()
    assert other.exists()
    assert linked.exists()
