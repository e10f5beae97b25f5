"""One process at a time writes an output: training, preparation, export and scoring hold a lock beside it.

The operating system releases the lock when the process ends, even by a kill. Where the file system has no such locks,
filelock writes a marker with the process instead, and takes over one whose process has ended on the same machine.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from model.errors import AgeGenderError


class OutputLockedError(AgeGenderError):
    """Another process writes the same output, or the lock cannot be written."""


@contextmanager
def only_writer(output: Path, option: str, lock_file: Path | None = None) -> Iterator[None]:
    """Hold the lock of `output`, whose file is removed at the end.

    Args:
        output: file or folder that is written.
        option: of the command line that names it, for the message.
        lock_file: `.NAME.lock` beside `output` unless given.

    Raises:
        OutputLockedError: another start that writes to `output` is alive; the message names its machine and process.
    """
    output = output.absolute()
    lock_file = lock_file or output.with_name(f".{output.name}.lock")
    lock = FileLock(lock_file, timeout=0)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise OutputLockedError(
            f"Another start that writes to {output} is alive{_owner(lock_file)}: both would write the same files. Wait until "
            f"it ends, stop it, or choose another {option}."
        ) from None
    except OSError as error:
        raise OutputLockedError(
            f"{lock_file} cannot be written: {error}. Mend that, or choose another {option}."
        ) from error
    try:
        _name_owner(lock_file)
        yield
    finally:
        # Before the release: another start that has opened the file already finds that it is gone, and makes a new one.
        with suppress(OSError):  # Windows removes no open file
            lock_file.unlink()
        lock.release()


def _name_owner(lock_file: Path) -> None:
    """In the form of filelock's own markers, which are left as they are."""
    owner = f"{os.getpid()}\n{socket.gethostname()}\n"
    with suppress(OSError):  # Windows lets nobody write to a locked file
        if not lock_file.read_text(encoding="utf-8", errors="replace").startswith(owner):
            lock_file.write_text(owner, encoding="utf-8")


def _owner(lock_file: Path) -> str:
    try:
        process, host, *_ = lock_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return ""
    elsewhere = "" if host == socket.gethostname() else f"; if that machine no longer runs it, remove {lock_file}"
    return f" (process {process} on {host}{elsewhere})"
