"""Files that appear under their name only when all of them is on the disk, even if the process is killed.

Alone in a module because the card, the trainer, the evaluation, the experiments and the scoring all write such files.
"""

import os
from collections.abc import Callable
from pathlib import Path


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
