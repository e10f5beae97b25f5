"""Pictures that visitors send: how they are read, and how their files are deleted again after the stated time."""

import base64
import binascii
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from model.image_loading import PictureError, PictureNotFoundError, load_rgb


logger = logging.getLogger(__name__)
FOLDER_PREFIX, LOCK_FILE = "age-gender-demo-", "in-use.lock"
FOLDER_NAME = re.compile(FOLDER_PREFIX + "[0-9a-f]{16}")
SWEEP_SECONDS = 60.0  # the longest time between two searches for old files


class PictureDeletedError(PictureError):
    """The uploaded file is gone: it was kept for as long as the page says."""


def read_upload(picture: dict | None) -> np.ndarray:
    """Read an uploaded picture, (H, W, 3) uint8. Gradio has checked that the path is one of its own uploads.

    Raises:
        PictureDeletedError: the file has been deleted. PictureError: there is no file, or it is not a usable picture.
    """
    path = path_of(picture)
    if not path:
        raise PictureError("Expected a picture file; none came. Upload one.")
    try:
        return load_rgb(path)
    except PictureNotFoundError:
        raise PictureDeletedError("This picture has been deleted in the meantime. Choose it again.") from None


def path_of(picture: dict | None) -> str | None:
    """The path in Gradio's description of a file; None where there is none."""
    path = picture.get("path") if isinstance(picture, dict) else None
    return path if isinstance(path, str) else None


def read_frame(frame: dict) -> np.ndarray:
    """Read a webcam's frame, (H, W, 3) uint8, from a data URL. Gradio itself would decode it without a limit of its size.

    Raises:
        PictureError: `frame["url"]` is not a data URL, or does not hold a usable picture.
    """
    head, mark, data = str(isinstance(frame, dict) and frame.get("url")).partition(";base64,")
    if not mark or not head.startswith("data:image/"):
        raise PictureError("Expected a webcam's picture as a data URL.")
    try:
        return load_rgb(base64.b64decode(data))
    except binascii.Error:
        raise PictureError("Expected a webcam's picture as a data URL in base64; it is damaged.") from None


def own_folder() -> Path:
    """A new folder name for GRADIO_TEMP_DIR, inside the folder that it names or the system's for temporary files.

    No other process uses the folder, so everything in it may be deleted. Once GRADIO_TEMP_DIR names it, it stays the same.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    return parent if FOLDER_NAME.fullmatch(parent.name) else parent / f"{FOLDER_PREFIX}{secrets.token_hex(8)}"


def in_own_folder(path: str) -> str:
    """The path with this process's folder in place of that of another demo (before a restart, or a replica)."""
    return re.sub(rf"^.*{FOLDER_NAME.pattern}(?=[/\\])", lambda _: str(own_folder()), path)


@contextmanager
def delete_uploads(folder: Path, keep_seconds: float, gradio_files: Iterable[set[str]] = ()) -> Iterator[None]:
    """During the block delete what is older than `keep_seconds`, at its end the whole folder.

    What lies in the folder at the start belongs to the page and stays. Folders of killed demos beside it are deleted too.
    Gradio's own `delete_cache` leaves uploads that were broken off: it knows only files that it has listed.

    Args:
        gradio_files: Gradio's lists of the files it has written; deleted files are removed from them.
    """
    files_of_page, ended = set(folder.rglob("*")), threading.Event()
    sweep_seconds = min(keep_seconds / 2, SWEEP_SECONDS)

    def sweep_regularly() -> None:
        while True:
            _delete_folders_of_killed_demos(folder)
            delete_older(folder, keep_seconds - sweep_seconds, files_of_page)
            for files in gradio_files:
                files -= {file for file in tuple(files) if not os.path.exists(file)}
            if ended.wait(sweep_seconds):
                return

    lock = FileLock(folder / LOCK_FILE)  # the operating system releases it when the process is killed
    lock.acquire()
    files_of_page.add(folder / LOCK_FILE)
    thread = threading.Thread(target=sweep_regularly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def delete_older(folder: Path, seconds: float, keep: Collection[Path] = ()) -> None:
    """Delete files and empty folders that were last changed more than `seconds` ago, except those in `keep`.

    A file that is being written is changed all the time, so it stays.
    """
    limit, old = time.time() - seconds, []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # an upload that has got its final name meanwhile
            if path not in keep and _last_change(path) < limit:
                old.append(path)
    for path in sorted(old, reverse=True):  # the content of a folder before the folder
        with suppress(OSError):  # a folder that has got another file, or a file that Windows has open
            path.rmdir() if path.is_dir() else path.unlink()


def _last_change(path: Path) -> float:
    """Seconds since 1970. An uploaded file can carry an old mtime, and on Windows ctime is the time of creation."""
    status = path.lstat()
    return max(status.st_mtime, status.st_ctime)


def _delete_folders_of_killed_demos(folder: Path) -> None:
    for neighbour in folder.parent.glob(f"{FOLDER_PREFIX}*"):
        lock = neighbour / LOCK_FILE
        is_of_demo = FOLDER_NAME.fullmatch(neighbour.name) and not neighbour.is_symlink()
        if neighbour == folder or not is_of_demo or not lock.exists():
            continue
        try:
            if time.time() - _last_change(lock) > SWEEP_SECONDS:  # a younger one may be about to be locked
                with FileLock(lock, timeout=0):
                    shutil.rmtree(neighbour, ignore_errors=True)
        except Timeout:
            pass  # its demo is running
        except OSError as error:  # it belongs to another user
            logger.warning("a temporary folder could not be searched: %s", error.strerror)
