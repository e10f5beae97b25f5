"""A folder of the demo's own for all that visitors send, emptied by age: Gradio forgets what came with an error."""

import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


PREFIX = "age-gender-demo-"
LIFE_SIGN_SECONDS = 60.0  # between two at most
DEAD_SECONDS = 180.0  # without a life sign
logger = logging.getLogger(__name__)


def own_folder() -> Path:
    """A new name for GRADIO_TEMP_DIR inside the folder that it names, or inside the system's one for temporary files.

    No other process has it, so that whatever lies there may be deleted.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    return parent / f"{PREFIX}{secrets.token_hex(8)}"


@contextmanager
def cleaned_up(folder: Path, keep_seconds: float) -> Iterator[None]:
    """Nothing that comes into `folder` during the block stays for longer than `keep_seconds`; at its end all is deleted.

    What lies there already is the page's own and stays. Folders of demos that were killed go as well: those beside
    `folder` that bear no sign of life.
    """
    pages_own, ended = set(folder.rglob("*")), threading.Event()

    def look_regularly() -> None:
        while True:
            try:
                _delete_dead_neighbours(folder)
                os.utime(folder)
                _delete_older(folder, keep_seconds / 2, pages_own)
            except OSError as error:  # the next look may do better
                logger.warning("temporary files could not be looked through: %s", error.strerror)
            if ended.wait(min(keep_seconds / 2, LIFE_SIGN_SECONDS)):
                return

    thread = threading.Thread(target=look_regularly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        shutil.rmtree(folder, ignore_errors=True)


def _delete_older(folder: Path, seconds: float, but: Collection[Path]) -> None:
    """By the time of the last change, which a file that is being written keeps renewing."""
    limit, old = time.time() - seconds, []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # an upload that has got its final name meanwhile
            if path not in but and path.lstat().st_ctime < limit:
                old.append(path)
    for path in sorted(old, reverse=True):  # what a folder holds before the folder
        with suppress(OSError):  # a folder that has got another file, or a file that Windows has open
            path.rmdir() if path.is_dir() else path.unlink()


def _delete_dead_neighbours(folder: Path) -> None:
    # By our own last life sign: after a computer has slept, the neighbours' are old because they slept too.
    limit = folder.stat().st_mtime - DEAD_SECONDS
    for neighbour in folder.parent.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):
            if neighbour.lstat().st_mtime < limit:
                shutil.rmtree(neighbour, ignore_errors=True)  # follows no links, fails where another user owns it
