"""Frames of a video, sampled by its own clock."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from scoring.entries import Entry, failing
from scoring.file_sources import version_of
from scoring.mp4 import MP4_SUFFIXES, shown_seconds
from trainer.sources import as_text


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
            frame_rate, promised = capture.get(cv2.CAP_PROP_FPS), self._promised_frames(capture)
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
            if frames < 0.9 * promised:  # headers are often wrong by a few frames
                problem = f"damaged: it ends after {frames} of {promised:.0f} frames"
                yield Entry(name, failing(ValueError(problem)), seconds)
        finally:
            capture.release()

    def count(self) -> int:
        capture = cv2.VideoCapture(str(self.path))
        frame_rate, frames = capture.get(cv2.CAP_PROP_FPS), self._promised_frames(capture)
        capture.release()
        share = min(self.frames_per_second / frame_rate, 1) if frame_rate > 0 else 1
        return max(math.ceil(frames * share), 1)

    def _promised_frames(self, capture: cv2.VideoCapture) -> float:
        """As many as the file holds, or fewer where it is trimmed: those in front of its beginning are not shown."""
        held, frame_rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        if self.path.suffix.lower() not in MP4_SUFFIXES or not frame_rate > 0:
            return held
        return min(held, shown_seconds(self.path) * frame_rate)

    def signature(self) -> str:
        return f"{self.path}|{version_of(self.path)}|{self.frames_per_second}"


def _retrieve(capture: cv2.VideoCapture) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the frame that was grabbed."""
    whole, frame_bgr = capture.retrieve()
    if not whole:
        raise ValueError("this frame is damaged")
    return cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)
