"""Frames of a video, sampled by its own clock."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from scoring.entries import Entry, failing
from scoring.file_sources import version_of
from trainer.sources import as_text


MP4_SUFFIXES = (".mp4", ".m4v", ".mov")
VIDEO_SUFFIXES = (*MP4_SUFFIXES, ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mjpeg")


@dataclass(frozen=True)
class Video:
    """The first frame at or after 0, 1 / frames_per_second, 2 / frames_per_second ... seconds, upright."""

    path: Path
    frames_per_second: float

    def __iter__(self) -> Iterator[Entry]:
        name = as_text(str(self.path))
        capture = cv2.VideoCapture(str(self.path))
        try:
            if not capture.isOpened():
                yield Entry(name, failing(ValueError("not a video that OpenCV can read, or damaged at its start")))
                return
            frame_rate, promised = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            frames = sampled = 0
            seconds = 0.0
            while capture.grab():
                # Files with a varying frame rate carry a time for each frame; some carry none at all.
                clock = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                seconds = clock if clock > seconds or not frames else frames / (frame_rate or 25)
                if seconds + 1e-6 >= sampled / self.frames_per_second:
                    yield Entry(name, lambda: _retrieve(capture), seconds)
                    sampled = math.floor((seconds + 1e-6) * self.frames_per_second) + 1
                frames += 1
            # headers are often wrong by a few frames
            if frames < 0.9 * promised and (self.path.suffix.lower() not in MP4_SUFFIXES or is_cut(self.path)):
                problem = f"damaged: it ends after {frames} of {promised:.0f} frames"
                yield Entry(name, failing(ValueError(problem)), seconds)
        finally:
            capture.release()

    def count(self) -> int:
        capture = cv2.VideoCapture(str(self.path))
        frames, frame_rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        share = min(self.frames_per_second / frame_rate, 1) if frame_rate > 0 else 1
        return max(math.ceil(frames * share), 1)

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}|{self.frames_per_second}"


def is_cut(path: Path) -> bool:
    """Whether an MP4 file ends before its boxes do. Fewer frames than it holds may be meant: trimming often hides them.

    A box is its length in four bytes, its type in four and, where that length is 1, its length in eight.
    """
    end, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while end + 8 <= size:
            file.seek(end)
            length = int.from_bytes(file.read(8)[:4], "big")
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            if length < 8:  # 0: up to the end of the file
                return False
            end += length
    return end > size


def _retrieve(capture: cv2.VideoCapture) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the frame that was grabbed."""
    whole, frame_bgr = capture.retrieve()
    if not whole:
        raise ValueError("this frame is damaged")
    return cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)
