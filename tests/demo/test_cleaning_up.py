"""The demo's temporary folder: old files are deleted, young ones and those of other programs stay, none is left at the end."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from demo.storage import LOCK_FILE, DiskFullError, Files, UploadSpace, delete_uploads, own_folder
from tests.support.small_disk import on_a_disk_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = own_folder()
    assert folder.parent == tmp_path
    folder.mkdir()
    return folder


def write(path: Path, length: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(length))
    return path


def soon(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def test_what_comes_is_deleted_with_its_folder_and_the_pages_own_stays(folder: Path):
    example = write(folder / "hash" / "example.jpg")
    known = {str(example)}
    with delete_uploads(Files(folder), keep_seconds=1, gradio_files=[known]):
        half_sent, picture = write(folder / "tmp1"), write(folder / "hash2" / "a.jpg")
        known.add(str(picture))
        assert soon(lambda: not half_sent.exists() and not picture.parent.exists())
        assert soon(lambda: known == {str(example)})
        assert example.exists()
    assert not folder.exists()


def test_what_is_young_stays(folder: Path, monkeypatch: pytest.MonkeyPatch):
    files = Files(folder)
    picture = write(folder / "hash" / "a.jpg")
    os.utime(picture, (0, 0))  # as a file may say of itself
    files.ages()
    now = time.monotonic()
    for age, stays in ((59, True), (61, False)):
        monkeypatch.setattr("demo.storage.time.monotonic", lambda age=age: now + age)
        files.delete_older(60)
        assert picture.exists() == stays


@pytest.mark.parametrize("set_by", [-86_400, 86_400, 0], ids=["back", "forward", "not set"])
def test_a_clock_that_is_set_keeps_no_picture_longer(folder: Path, monkeypatch: pytest.MonkeyPatch, set_by: int):
    files, clock = Files(folder), time.time
    old = write(folder / "old.jpg")
    files.ages()
    monkeypatch.setattr("demo.storage.time.time", lambda: clock() + set_by)
    new = write(folder / "new.jpg")
    os.utime(new, (clock() + set_by, clock() + set_by))
    start = time.monotonic()
    monkeypatch.setattr("demo.storage.time.monotonic", lambda: start + 30)
    ages = files.ages()
    assert ages[old] == pytest.approx(30, abs=1)
    assert 0 <= ages[new] <= 31  # since the last look
    monkeypatch.setattr("demo.storage.time.monotonic", lambda: start + 62)
    files.delete_older(60)
    assert not old.exists()


def test_the_oldest_make_room_and_the_youngest_are_not_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    files = Files(folder)
    space, start, pictures = UploadSpace(files, max_bytes=100_000), time.monotonic(), []
    for seconds in (0, 10, 100):
        monkeypatch.setattr("demo.storage.time.monotonic", lambda seconds=seconds: start + seconds)
        pictures.append(write(folder / f"{seconds}.jpg", 20_000))
        files.ages()
    space.reserve(40_000)
    assert [picture.exists() for picture in pictures] == [False, True, True]
    with pytest.raises(DiskFullError, match="no room for more pictures"):
        space.reserve(40_000)  # the first upload is still coming
    assert pictures[2].exists()
    space.release(40_000)
    space.reserve(40_000)


def test_what_a_killed_demo_left_is_deleted_and_nobody_elses_files_are(folder: Path, monkeypatch: pytest.MonkeyPatch):
    dead, alive, foreign = own_folder(), own_folder(), folder.parent / "age-gender-demo-backup"
    for place in (dead, alive, foreign, folder.parent / "elsewhere"):
        write(place / "hash" / "a.jpg")
        write(place / LOCK_FILE)
    link = folder.parent / "age-gender-demo-0123456789abcdef"
    link.symlink_to(folder.parent / "elsewhere")
    monkeypatch.setattr("demo.storage.SWEEP_SECONDS", -1)  # none of them is about to be locked
    with FileLock(alive / LOCK_FILE), delete_uploads(Files(folder), keep_seconds=600):
        assert soon(lambda: not dead.exists())
    left = {path.parents[1].name for path in folder.parent.rglob("a.jpg")}
    assert left == {alive.name, foreign.name, "elsewhere"}


def test_a_neighbour_that_cannot_be_looked_into_ends_no_search(folder: Path):
    """As the folder of another user, whose lock only root may look for. Whoever runs the tests, this lock cannot be read."""
    neighbour = own_folder()
    neighbour.mkdir()
    (neighbour / LOCK_FILE).symlink_to("x" * 300)
    with delete_uploads(Files(folder), keep_seconds=1):
        picture = write(folder / "a.jpg")
        assert soon(lambda: not picture.exists())
    assert neighbour.exists()


def test_a_search_that_fails_is_told_without_names_of_files_and_the_next_one_comes(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    failures = []

    def fail() -> None:
        failures.append(folder / "private-name.jpg")
        raise OSError(5, "Input/output error", str(failures[-1]))

    with delete_uploads(Files(folder), keep_seconds=1, on_sweep=fail):
        picture = write(folder / "private-name.jpg")
        assert soon(lambda: not picture.exists() and len(failures) > 1)
    assert "OSError" in caplog.text
    assert "private-name" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("way", "disk"), [("upload", "1m"), ("desk", "2m")])
def test_an_upload_that_fills_the_disk_gets_a_clear_answer_and_leaves_no_half_file(tmp_path: Path, way: str, disk: str):
    command = f"{sys.executable} -m tests.support.full_disk_upload {tmp_path}/disk {way}"
    done = on_a_disk_of(disk, tmp_path, command)
    assert "507 The demo's disk is full. Try again in some minutes. []" in done.stdout, done.stdout + done.stderr
