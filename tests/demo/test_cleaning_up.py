"""The demo's temporary folder: old files are deleted, young ones and those of other programs stay, none is left at the end."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from demo.uploads import LOCK_FILE, delete_older, delete_uploads, own_folder


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
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def test_what_comes_is_deleted_with_its_folder_and_the_pages_own_stays(folder: Path):
    example = write(folder / "hash" / "example.jpg")
    known = {str(example)}
    with delete_uploads(folder, keep_seconds=1, gradio_files=[known]):
        half_sent, picture = write(folder / "tmp1"), write(folder / "hash2" / "a.jpg")
        known.add(str(picture))
        assert soon(lambda: not half_sent.exists() and not picture.parent.exists())
        assert soon(lambda: known == {str(example)})
        assert example.exists()
    assert not folder.exists()


def test_what_is_young_stays(folder: Path, monkeypatch: pytest.MonkeyPatch):
    picture = write(folder / "hash" / "a.jpg")
    os.utime(picture, (0, 0))  # as a file may say of itself
    now = time.time()
    for age, stays in ((59, True), (61, False)):
        monkeypatch.setattr("demo.uploads.time.time", lambda age=age: now + age)
        delete_older(folder, 60)
        assert picture.exists() == stays


def test_what_a_killed_demo_left_is_deleted_and_nobody_elses_files_are(folder: Path, monkeypatch: pytest.MonkeyPatch):
    dead, alive, foreign = own_folder(), own_folder(), folder.parent / "age-gender-demo-backup"
    for place in (dead, alive, foreign, folder.parent / "elsewhere"):
        write(place / "hash" / "a.jpg")
        write(place / LOCK_FILE)
    link = folder.parent / "age-gender-demo-0123456789abcdef"
    link.symlink_to(folder.parent / "elsewhere")
    monkeypatch.setattr("demo.uploads.SWEEP_SECONDS", -1)  # none of them is about to be locked
    with FileLock(alive / LOCK_FILE), delete_uploads(folder, keep_seconds=600):
        assert soon(lambda: not dead.exists())
    left = {path.parents[1].name for path in folder.parent.rglob("a.jpg")}
    assert left == {alive.name, foreign.name, "elsewhere"}
