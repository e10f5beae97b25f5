"""What the page and the API are sent, read into pictures."""

import base64
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

from model.image_loading import load_rgb


logger = logging.getLogger(__name__)


class Deleted(ValueError):
    """The picture was kept for as long as the page says."""


def read_upload(picture: dict | None) -> np.ndarray:
    """(H, W, 3). Gradio has checked that the path is one of its own uploads. Raises `ValueError`, `Deleted`."""
    path = path_of(picture)
    if not path:
        raise ValueError("Expected a picture file; none came. Upload one.")
    try:
        return load_rgb(path)
    except FileNotFoundError:
        raise Deleted("This picture has been deleted in the meantime. Choose it again.") from None


def read_frame(frame: dict) -> np.ndarray:
    """(H, W, 3) of a webcam's picture as a data URL, which Gradio would decode before anybody asked for its size."""
    head, mark, data = str(isinstance(frame, dict) and frame.get("url")).partition(";base64,")
    if not mark or not head.startswith("data:image/"):
        raise ValueError("Expected a webcam's picture as a data URL.")
    return load_rgb(base64.b64decode(data))


def path_of(picture: dict | None) -> str | None:
    path = picture.get("path") if isinstance(picture, dict) else None
    return path if isinstance(path, str) else None


PREFIX, LOCK = "age-gender-demo-", "in-use.lock"
OWN_NAME = re.compile(PREFIX + "[0-9a-f]{16}")
LOOK_SECONDS = 60.0  # between two looks at most


def own_folder() -> Path:
    """A new name for GRADIO_TEMP_DIR inside the folder that it names, or inside the system's one for temporary files.

    No other process has it, so that whatever lies there may be deleted. Asked again, it is the same.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    return parent if OWN_NAME.fullmatch(parent.name) else parent / f"{PREFIX}{secrets.token_hex(8)}"


def as_own(path: str) -> str:
    """A file in the folder of another demo (before a restart, or a replica) under the name it would have in this one's."""
    return re.sub(rf"^.*{OWN_NAME.pattern}(?=[/\\])", lambda _: str(own_folder()), path)


@contextmanager
def cleaned_up(folder: Path, keep_seconds: float, known_files: Iterable[set[str]] = ()) -> Iterator[None]:
    """Nothing that comes into `folder` during the block stays for longer than `keep_seconds`; at its end all is deleted.

    What lies there already is the page's own and stays. Folders beside it go too if their demo was killed.

    Args:
        known_files: Gradio's lists of the files it has written, from which the deleted ones are struck.
    """
    pages_own, ended = set(folder.rglob("*")), threading.Event()
    look_seconds = min(keep_seconds / 2, LOOK_SECONDS)

    def look_regularly() -> None:
        while True:
            _delete_dead_neighbours(folder)
            delete_older(folder, keep_seconds - look_seconds, pages_own)
            for files in known_files:
                files -= {file for file in tuple(files) if not os.path.exists(file)}
            if ended.wait(look_seconds):
                return

    lock = FileLock(folder / LOCK)  # the system takes it back from a demo that is killed
    lock.acquire()
    pages_own.add(folder / LOCK)
    thread = threading.Thread(target=look_regularly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def delete_older(folder: Path, seconds: float, but: Collection[Path] = ()) -> None:
    """By the time of the last change, which a file that is being written keeps renewing."""
    limit, old = time.time() - seconds, []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # an upload that has got its final name meanwhile
            if path not in but and _changed(path) < limit:
                old.append(path)
    for path in sorted(old, reverse=True):  # what a folder holds before the folder
        with suppress(OSError):  # a folder that has got another file, or a file that Windows has open
            path.rmdir() if path.is_dir() else path.unlink()


def _changed(path: Path) -> float:
    """Seconds since 1970. What is sent can carry an old mtime, and Windows' ctime is that of the creation."""
    status = path.lstat()
    return max(status.st_mtime, status.st_ctime)


def _delete_dead_neighbours(folder: Path) -> None:
    for neighbour in folder.parent.glob(f"{PREFIX}*"):
        lock = neighbour / LOCK
        is_ours = OWN_NAME.fullmatch(neighbour.name) and not neighbour.is_symlink()
        if neighbour == folder or not is_ours or not lock.exists():
            continue
        try:
            if time.time() - _changed(lock) > LOOK_SECONDS:  # else it may be about to be locked
                with FileLock(lock, timeout=0):
                    shutil.rmtree(neighbour, ignore_errors=True)
        except Timeout:
            pass  # its demo is alive
        except OSError as error:  # another user's
            logger.warning("a temporary folder could not be looked through: %s", error.strerror)
