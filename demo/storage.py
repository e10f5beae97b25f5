"""The demo's temporary folder: nothing stays in it for longer than stated, and it does not grow beyond its limit."""

import errno
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from model.errors import AgeGenderError


logger = logging.getLogger(__name__)
FOLDER_PREFIX, LOCK_FILE = "age-gender-demo-", "in-use.lock"
FOLDER_NAME = re.compile(FOLDER_PREFIX + "[0-9a-f]{16}")
SWEEP_SECONDS = 60.0  # the longest time between two searches for old files
YOUNG_SECONDS = 60.0  # a file that somebody is probably asking about: it is not deleted to make room
FREE_BYTES = 50_000_000  # of the disk, which stay free
ERRORS_OF_FULL_DISKS = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "The demo's disk is full. Try again in some minutes."
FILE_BYTES = 4_096  # of the disk, which even an empty file takes


class DiskFullError(AgeGenderError):
    """There is no room for an upload."""


def own_folder() -> Path:
    """A new folder name for GRADIO_TEMP_DIR, inside the folder that it names or the system's for temporary files.

    No other process uses the folder, so everything in it may be deleted. Once GRADIO_TEMP_DIR names it, it stays the same.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    return parent if FOLDER_NAME.fullmatch(parent.name) else parent / f"{FOLDER_PREFIX}{secrets.token_hex(8)}"


def in_own_folder(path: str) -> str:
    """The path with this process's folder in place of that of another demo (before a restart, or a replica)."""
    return re.sub(rf"^.*{FOLDER_NAME.pattern}(?=[/\\])", lambda _: str(own_folder()), path)


class Files:
    """The files in a folder and how long they have been there, by a clock that nobody can set back."""

    def __init__(self, folder: Path, keep: Collection[Path] = ()):
        self.folder, self.keep = folder, set(keep)
        self._known: dict[Path, tuple[float, float]] = {}  # its last change by the system's clock, and by ours
        self._looked, self._lock = time.monotonic(), threading.Lock()

    def ages(self) -> dict[Path, float]:
        """Seconds since each file or folder was last changed. One that is being written is changed all the time.

        The system's clock only tells which part of the time since the last look has passed for a file that was changed
        meanwhile: if it was set, the file counts as changed right after that look.
        """
        with self._lock:
            now, known = time.monotonic(), {}
            since_last_look = now - self._looked
            for path in _everything_in(self.folder):
                if path in self.keep:
                    continue
                with suppress(FileNotFoundError):  # an upload that has got its final name meanwhile
                    change = _last_change(path)
                    if path in self._known and self._known[path][0] == change:
                        known[path] = self._known[path]
                    else:
                        age = time.time() - change
                        known[path] = change, now - (age if 0 <= age <= since_last_look else since_last_look)
            self._known, self._looked = known, now
            return {path: now - changed for path, (_, changed) in known.items()}

    def delete_older(self, seconds: float) -> None:
        """Delete files and empty folders that were last changed more than `seconds` ago, except those in `keep`."""
        old = [path for path, age in self.ages().items() if age > seconds]
        for path in sorted(old, reverse=True):  # the content of a folder before the folder
            _delete(path)

    def make_room(self, bytes_wanted: int, max_bytes: int) -> None:
        """Delete the oldest files until so much fits into the folder and onto the disk.

        Raises:
            DiskFullError: it does not fit, and only young files are left.
        """
        ages = self.ages()
        sizes = {path: _size(path) for path in ages}
        missing = max(
            sum(sizes.values()) + bytes_wanted - max_bytes,
            bytes_wanted + FREE_BYTES - shutil.disk_usage(self.folder).free,
        )
        for path in sorted(ages, key=lambda path: ages[path], reverse=True):
            if missing <= 0:
                return
            if ages[path] > YOUNG_SECONDS and _delete(path):
                missing -= sizes[path]
        if missing > 0:
            raise DiskFullError("The demo has no room for more pictures at the moment. Try again in some minutes.")


class UploadSpace:
    """Room for uploads, of which several come at the same time.

    Args:
        max_bytes: of all files in the folder.
    """

    def __init__(self, files: Files, max_bytes: int):
        self.folder, self._files, self._max_bytes = files.folder, files, max_bytes
        self._reserved, self._lock = 0, threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        return self._reserved

    def reserve(self, length: int) -> None:
        """Raises `DiskFullError`."""
        with self._lock:
            self._files.make_room(self._reserved + length, self._max_bytes)
            self._reserved += length

    def release(self, length: int) -> None:
        with self._lock:
            self._reserved -= length


@contextmanager
def delete_uploads(
    files: Files,
    keep_seconds: float,
    gradio_files: Iterable[set[str]] = (),
    on_sweep: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """During the block delete what is older than `keep_seconds`, at its end the whole folder.

    What lies in the folder at the start belongs to the page and stays. Folders of killed demos beside it are deleted too.
    Gradio's own `delete_cache` leaves uploads that were broken off: it knows only files that it has listed.

    Args:
        gradio_files: Gradio's lists of the files it has written; deleted files are removed from them.
        on_sweep: called as often as files are searched for.
    """
    folder, ended = files.folder, threading.Event()
    files.keep |= set(folder.rglob("*"))
    sweep_seconds = min(keep_seconds / 2, SWEEP_SECONDS)

    def delete_old() -> None:
        files.delete_older(keep_seconds - sweep_seconds)

    def forget_deleted() -> None:
        for listed in gradio_files:
            listed -= {file for file in tuple(listed) if not os.path.exists(file)}

    def sweep_regularly() -> None:
        while True:
            for step in (delete_old, forget_deleted, on_sweep, partial(_delete_folders_of_killed_demos, folder)):
                try:
                    step()
                except Exception as error:  # whatever it is, files are deleted with the next sweep
                    _log_failed_sweep(error)
            if ended.wait(sweep_seconds):
                return

    lock = FileLock(folder / LOCK_FILE)  # the operating system releases it when the process is killed
    lock.acquire()
    files.keep.add(folder / LOCK_FILE)
    thread = threading.Thread(target=sweep_regularly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _log_failed_sweep(error: Exception) -> None:
    """With its traceback, but without its text, which can hold the name of a visitor's picture."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("searching for old files failed: %s\n%s", type(error).__name__, frames)


def _everything_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):  # unlike rglob, it continues when a folder has been deleted meanwhile
        yield from (Path(place, name) for name in (*folders, *names))


def _delete(path: Path) -> bool:
    """Whether it is gone. A folder that has got another file, or a file that Windows has open, stays."""
    try:
        path.rmdir() if path.is_dir() else path.unlink()
    except OSError:
        return not path.exists()
    return True


def _size(path: Path) -> int:
    try:
        return FILE_BYTES + path.lstat().st_size
    except OSError:
        return 0


def _last_change(path: Path) -> float:
    """Seconds since 1970. An uploaded file can carry an old mtime, and on Windows ctime is the time of creation."""
    status = path.lstat()
    return max(status.st_mtime, status.st_ctime)


def _delete_folders_of_killed_demos(folder: Path) -> None:
    for neighbour in folder.parent.glob(f"{FOLDER_PREFIX}*"):
        lock = neighbour / LOCK_FILE
        is_of_demo = FOLDER_NAME.fullmatch(neighbour.name) and not neighbour.is_symlink()
        if neighbour == folder or not is_of_demo:
            continue
        try:
            if not lock.exists():
                continue
            # A younger one may be about to be locked. One from the future is of before the clock was set back.
            if abs(time.time() - _last_change(lock)) > SWEEP_SECONDS:
                with FileLock(lock, timeout=0):
                    shutil.rmtree(neighbour, ignore_errors=True)
        except Timeout:
            pass  # its demo is running
        except OSError as error:  # it belongs to another user
            logger.warning("a temporary folder could not be searched: %s", error.strerror)
