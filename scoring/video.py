"""Pictures from a video: frames sampled by the clock."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np

from model.decoding_limits import check_size
from model.errors import PictureError
from scoring.sources import Entry, InputError, Source, failing, version_of
from trainer.data.picture_files import as_text


VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".f4v", ".ogv"),
    *(".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".dv", ".mjpeg", ".mjpg"),
)
MAX_PIXEL_ASPECT = 4.0  # cinema's lenses squeeze by 2
MAX_FRAME_RATE = 1000.0  # a second; FFmpeg reports 60,000 on average for DV


@dataclass(frozen=True)
class Video(Source):
    """The first frame at or after 0, 1 / frames_per_second, 2 / frames_per_second ... seconds.

    A video of which more than a tenth of the frames is missing or damaged has one more entry that says so.
    """

    path: Path
    frames_per_second: float

    def __iter__(self) -> Iterator[Entry]:
        name = as_text(str(self.path))
        decoded = sampled = 0
        seconds = 0.0
        try:
            with _opened(self.path) as container:
                expected, pixel_aspect = _expected_frames(container), _pixel_aspect(container)
                for seconds, frame in _timed_frames(container):
                    decoded += 1
                    if seconds + 1e-6 >= sampled / self.frames_per_second:
                        yield Entry(name, partial(_upright_rgb, frame, pixel_aspect), seconds)
                        sampled = math.floor((seconds + 1e-6) * self.frames_per_second) + 1
        except InputError as error:
            yield Entry(name, failing(error))
            return
        if decoded < 0.9 * expected:  # headers are often wrong by a few frames
            problem = f"damaged: only {decoded} of {expected:.0f} frames can be read"
            yield Entry(name, failing(InputError(problem)), seconds)

    def count(self) -> int:
        try:
            with _opened(self.path) as container:
                fraction = min(self.frames_per_second / _frame_rate(container), 1)
                return max(math.ceil(_expected_frames(container) * fraction), 1)
        except InputError:
            return 1

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}|{self.frames_per_second}"


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    """
    Raises:
        InputError: it is not a video, its frames are too large; or, while it is read, too damaged to go on.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError("not a video: it holds no pictures")
            stored = container.streams.video[0].codec_context
            try:
                check_size(stored.width, stored.height, "the video")  # before the first frame takes its memory
            except PictureError as error:
                raise InputError(str(error)) from None
            yield container
    except av.FFmpegError as error:
        raise InputError(f"not a video, or damaged: {error.strerror}") from error


def _timed_frames(container: av.container.InputContainer) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every frame that can be decoded, with its seconds from the start."""
    stream = container.streams.video[0]
    start = float((stream.start_time or 0) * (stream.time_base or 0))
    seconds = 0.0
    for index, frame in enumerate(_frames(container)):
        clock = (frame.time or 0.0) - start
        # Files with a varying frame rate carry a time for each frame; some carry none at all.
        seconds = clock if clock > seconds or not index else index / _frame_rate(container)
        yield seconds, frame


def _frames(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:  # the frames after a damaged one can still be decoded
            continue
        yield from frames


def _expected_frames(container: av.container.InputContainer) -> float:
    """How many frames the header says there are to be shown; 0 where it does not say."""
    # The frames of an MP4 include those that its edit list hides, as where a phone trimmed it; its duration does not.
    held = 0 if "mp4" in container.format.name else container.streams.video[0].frames
    return held or (container.duration or 0) / av.time_base * _frame_rate(container)


def _pixel_aspect(container: av.container.InputContainer) -> float:
    """Width of a pixel divided by its height: not 1 on DVDs, in DV and in HDV. 1 where the file does not say, or nonsense."""
    aspect = float(container.streams.video[0].sample_aspect_ratio or 1)
    return aspect if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else 1.0


def _frame_rate(container: av.container.InputContainer) -> float:
    stream = container.streams.video[0]
    average = float(stream.average_rate or 0)
    return average if 0 < average < MAX_FRAME_RATE else float(stream.guessed_rate or 25)


def _upright_rgb(frame: av.VideoFrame, pixel_aspect: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB with square pixels, turned as the video says: phones store frames as the sensor lies.

    Args:
        pixel_aspect: width of a stored pixel divided by its height; the shorter side is stretched, so no detail is lost.
    """
    width, height = frame.width, frame.height
    width, height = round(width * max(pixel_aspect, 1)), round(height / min(pixel_aspect, 1))
    check_size(width, height, "the frame")
    image_rgb = frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(np.rot90(image_rgb, frame.rotation // 90))
