"""How a command writes its output: alone, whole or not at all, and tables so that a spreadsheet shows what is in them.

Training, preparation, export and scoring hold a lock beside their output. The operating system releases the lock when the process
ends, even by a kill. Where the file system has no such locks, filelock writes a marker with the process instead, and takes over
one whose process has ended on the same machine. A file appears under its name only when all of it is on the disk. In a CSV file
that people open in a spreadsheet texts stay texts, and none is run as a formula.
"""

import csv
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from model.errors import AgeGenderError


# By the byte order mark a spreadsheet recognises UTF-8; pandas and csv skip it when they read with this encoding.
ENCODING = "utf-8-sig"
# What Excel and LibreOffice run when they open the file (https://owasp.org/www-community/attacks/CSV_Injection), also after
# spaces, and in the full width of East Asian keyboards; and "3-9" or "10/19", of which they make dates.
_UNSAFE = re.compile(r"[\s\0]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]|\d+[-/.]\d+([-/.]\d+)?$")
_ESCAPED = re.compile(rf"'(?='*({_UNSAFE.pattern}))")


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to a temporary file beside `path`, then move it there."""
    fill_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def fill_atomically(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a temporary file beside `path`, then move it there."""
    # the process id: one that outlived its launcher may still be writing the same file
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        fill(unfinished)
        sync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)  # on a full disk it would take what space is left


def sync(path: Path) -> None:
    """Return when what was written to the file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


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
            f"{lock_file} cannot be written: {error}. Fix that, or choose another {option}."
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


def write_csv(file: IO[str], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and the rows, `safe_cell` each. Open `file` with `encoding=ENCODING, newline=""`."""
    writer = csv.writer(file)
    writer.writerow(map(safe_cell, columns))
    writer.writerows(map(safe_cell, row) for row in rows)


def safe_cell(cell: object) -> object:
    """A text that a spreadsheet would take for a formula or a date gets an apostrophe before it. Numbers stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and _UNSAFE.match(cell.lstrip("'")) else cell


def read_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    return _ESCAPED.sub("", text, count=1)
