"""A film of a face that sways, for a browser's camera."""

import math
from pathlib import Path

from PIL import Image
from skimage.data import astronaut

from scripts.benchmarks.browser import write_frames


FILM_FRAMES = 64


def middle_of_face(frame: int) -> float:
    """Pixels from the left, in the film: it sways by up to a sixth of its width a frame."""
    return round(320 + 150 * math.sin(2 * math.pi * frame / FILM_FRAMES))


def swaying_film(path: Path) -> Path:
    """A portrait that sways. A row of six black or white squares says which frame it is."""
    portrait = Image.fromarray(astronaut()).crop((124, 20, 324, 220))
    frames = []
    for index in range(FILM_FRAMES):
        frame = Image.new("RGB", (640, 480), "#444")
        frame.paste(portrait, (int(middle_of_face(index)) - 100, 120))
        for bit in range(6):
            frame.paste("white" if index >> bit & 1 else "black", (40 * bit, 440, 40 * bit + 40, 480))
        frames.append(frame)
    return write_frames(path, frames)
