"""Pictures that visitors send: forms become files, and uploaded files and webcam frames become arrays."""

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

import anyio
import anyio.to_thread
import numpy as np
from gradio.route_utils import FileUploadProgress, GradioMultiPartParser
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from demo.decoding import FRAMES, PICTURES
from demo.memory import MAX_SESSIONS
from demo.storage import DISK_FULL, ERRORS_OF_FULL_DISKS, DiskFullError, UploadSpace
from model.errors import PictureError


MAX_TEXT, MAX_NAME = 2_000, 255  # characters of a typed text, and of a file's name
MAX_SHOWN = 100  # characters of a file's name in a message


class PictureDeletedError(PictureError):
    """The uploaded file is gone: it was kept for as long as the page says."""


def read_upload(picture: dict | None) -> np.ndarray:
    """Read an uploaded picture, (H, W, 3) uint8. Gradio has checked that the path is one of its own uploads.

    Raises:
        PictureDeletedError: the file has been deleted. PictureError: there is no file.
        AgeGenderError: what `Decoders.decode` raises.
    """
    path = path_of(picture)
    if not path:
        raise PictureError("Expected a picture file; none came. Upload one.")
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise PictureDeletedError("This picture has been deleted in the meantime. Choose it again.") from None
    name = Path(path).name
    return PICTURES.decode(content, name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}...")


def read_bytes(picture: bytes) -> np.ndarray:
    """Read a picture that came with its question, (H, W, 3) uint8; it was never a file. Raises what `Decoders.decode` does."""
    return PICTURES.decode(picture, "the picture")


def path_of(picture: dict | None) -> str | None:
    """The path in Gradio's description of a file; None where there is none."""
    path = picture.get("path") if isinstance(picture, dict) else None
    return path if isinstance(path, str) else None


def read_frame(frame: dict | None) -> np.ndarray:
    """Read a webcam's frame, (H, W, 3) uint8, from a data URL. Gradio itself would decode it without a limit of its size.

    Raises:
        PictureError: `frame["url"]` is not a data URL. AgeGenderError: what `Decoders.decode` raises.
    """
    head, mark, data = str(isinstance(frame, dict) and frame.get("url")).partition(";base64,")
    if not mark or not head.startswith("data:image/"):
        raise PictureError("Expected a webcam's picture as a data URL.")
    try:
        content = base64.b64decode(data)
    except binascii.Error:
        raise PictureError("Expected a webcam's picture as a data URL in base64; it is damaged.") from None
    return FRAMES.decode(content, "the webcam's picture")


@asynccontextmanager
async def room_for(length: int, space: UploadSpace) -> AsyncIterator[None]:
    """Keep so many bytes free for the block. Raises `HTTPException` 507 where the disk is full, before it or in it."""
    try:
        await anyio.to_thread.run_sync(space.reserve, length)
    except DiskFullError as error:
        raise HTTPException(507, str(error)) from None
    try:
        yield
    except OSError as error:
        if error.errno in ERRORS_OF_FULL_DISKS:
            raise HTTPException(507, DISK_FULL) from None
        raise
    finally:
        space.release(length)


class RecentUploads(FileUploadProgress):
    """Since 4.0 Gradio keeps the number of every upload whose progress nobody asks for:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L706
    """

    def track(self, upload_id: str) -> None:
        super().track(upload_id)
        for kept in (self._statuses, self._signals):
            while len(kept) > MAX_SESSIONS:
                del kept[next(iter(kept))]  # the oldest


class PictureParser(MultiPartParser):
    """Starlette's parser, for a picture that comes with its question. A picture of more than `spool_max_size` lies in `folder`,
    without a name, until the form is closed; Starlette would take the system's folder for temporary files:
    https://github.com/encode/starlette/blob/0.49.1/starlette/formparsers.py#L200
    """

    def __init__(self, headers: Any, stream: Any, *, folder: Path, **options: Any):
        super().__init__(headers, stream, **options)
        self._folder = folder

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        upload = self._current_part.file
        if upload is not None:
            upload.file.close()
            file = SpooledTemporaryFile(self.spool_max_size, dir=str(self._folder))  # noqa: SIM115 - closed with the form
            self._files_to_close_on_error.append(file)
            upload.file = cast(BinaryIO, file)


class StrictMultiPartParser(GradioMultiPartParser):
    """The parser of uploads. Gradio's, since 4.0, takes 1,000 files and text fields of any length, and leaves half files
    behind when the visitor leaves or the disk is full:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L908
    """

    def __init__(self, headers: Any, stream: Any, *, most_files: int, space: UploadSpace, **options: Any):
        super().__init__(headers, stream, **options | {"max_files": most_files, "max_fields": 5})
        self._space, self._length = space, int(headers.get("content-length", 0))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if self._current_part.file is None and len(self._current_part.data) > MAX_TEXT:
            raise MultiPartException("Expected picture files; a text field is too long.")

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None and len(file.filename or "") > MAX_NAME:
            raise MultiPartException(f"Expected names of files of at most {MAX_NAME} characters. Rename the file.")

    async def parse(self) -> FormData:
        """Raises `HTTPException` 507 where the disk is full."""
        async with room_for(self._length, self._space):
            try:
                return await super().parse()
            except BaseException:  # the visitor has left, for instance
                self._delete_half_files()
                raise

    def _delete_half_files(self) -> None:
        for file in self._files_to_close_on_error:
            with suppress(OSError):  # what could not be written
                file.close()
            with suppress(OSError):
                Path(file.name).unlink()
