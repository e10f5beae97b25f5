"""Files that are there only when they are whole, whenever the process is killed."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write `text` beside `path`, and let it appear there when it is on the disk."""
    fill_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def fill_whole(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file beside `path`, which appears there when it is on the disk."""
    # a name of this process's own: one that outlived its launcher may still be at the same file
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        fill(unfinished)
        sync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)  # where the disk is full, it would take what is left


def sync(path: Path) -> None:
    """Return when what was written to the file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
