"""Which files of a folder or archive are pictures: one rule for training, preparation and scoring."""

import mimetypes
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from model.image_formats import START_BYTES, SUFFIXES, starts_as_picture
from trainer.data import DatasetError


NOT_A_PICTURE, HIDDEN = "not a picture", "hidden file"  # problems, also in a manifest
# Folders that systems and programs keep beside pictures; those that begin with a dot are hidden too.
_HIDDEN_FOLDERS = ("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information")
# Content would call these pictures: raw photos are TIFF files, and would be read as their small preview.
_NO_PICTURES = (
    *(".cr2", ".nef", ".nrw", ".dng", ".arw", ".sr2", ".srf", ".srw", ".pef", ".orf", ".rw2", ".3fr", ".iiq"),
    *(".erf", ".kdc", ".dcr", ".mef", ".mos"),
    ".thm",  # a camera's thumbnail of a video
)
_KNOWN_NAMES = mimetypes.MimeTypes()  # Python's own table, the same on every machine


def why_no_picture(name: str, read_start: Callable[[], bytes]) -> str:
    """`HIDDEN`, `NOT_A_PICTURE`, or "" for a picture, by its name, or by its content where the name says nothing.

    Args:
        name: path inside a folder or archive.
        read_start: returns the first `START_BYTES` bytes of the file, or all; called only where the name says nothing.
    """
    if is_hidden(name):
        return HIDDEN
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return ""
    return "" if _says_nothing(suffix) and starts_as_picture(read_start()) else NOT_A_PICTURE


def is_hidden(name: str) -> bool:
    """Whether a path inside a folder or archive names a system's or program's file: thumbnails, deleted files, copies."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return name.endswith("~") or any(
        (part.startswith(".") and part != "..") or part.lower() in _HIDDEN_FOLDERS for part in parts
    )


def files_in(folder: Path) -> list[Path]:
    """Every file in a folder and the folders in it, those that are links among them, sorted. Links into a parent end there.

    Raises:
        DatasetError: one of the folders cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DatasetError(
            f"The folder {error.filename} cannot be read: {error.strerror}. Make it readable, or move it away."
        )

    files: list[Path] = []
    parents: dict[str, set[tuple[int, int]]] = {}  # of each folder: itself and those that lead to it
    for name, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        stat = os.stat(name)
        above = parents.get(os.path.dirname(name), set())
        if (stat.st_dev, stat.st_ino) in above:
            folders.clear()
            continue
        parents[name] = above | {(stat.st_dev, stat.st_ino)}
        files += (Path(name, file) for file in names)
    return sorted(files)


def start_of(path: Path) -> bytes:
    """The first `START_BYTES` bytes of a plain file; nothing of a pipe or device, or where it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(START_BYTES)
    except OSError:
        return b""


def _says_nothing(suffix: str) -> bool:
    """Whether a suffix is none that stands for a kind of file: photo, photo.jpg_large, photo.2, photo.bin."""
    known, _ = _KNOWN_NAMES.guess_type(f"name{suffix}", strict=False)
    return suffix not in _NO_PICTURES and known in (None, "application/octet-stream")


def as_text(name: str) -> str:
    """A file name with \\xff and the like for bytes that are not UTF-8, which a table cannot hold."""
    return name.encode(errors="backslashreplace").decode()
