"""Pictures to score, made of one portrait in the public domain: face crops, and photographs of 1280 x 720 pixels.

Alone in a module: the processes whose memory is measured import it, without a browser and without scikit-image.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image


PORTRAIT_FILE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.jpg"
PHOTO_WH = (1280, 720)


def write_crops(folder: Path, count: int) -> Path:
    """The portrait's face at 200 x 200 pixels, each framed a little differently."""
    portrait = Image.open(PORTRAIT_FILE).convert("RGB")
    for index, (x, y) in enumerate(np.random.default_rng(0).integers(-6, 7, (count, 2))):
        crop = portrait.crop((160 + x, 55 + y, 290 + x, 185 + y)).resize((200, 200))
        _save(crop, folder / f"{index:06d}.jpg")
    return folder


def write_photographs(folder: Path, count: int) -> Path:
    """The portrait one to three times, at sizes from 240 to 480 pixels, on a grainy canvas of 1280 x 720."""
    random, portrait = np.random.default_rng(0), Image.open(PORTRAIT_FILE).convert("RGB")
    for index in range(count):
        grain = random.integers(90, 160, (PHOTO_WH[1] // 4, PHOTO_WH[0] // 4, 3), dtype=np.uint8)
        photo = Image.fromarray(grain).resize(PHOTO_WH, Image.Resampling.BICUBIC)
        for place in range(1 + index % 3):
            side = int(random.integers(240, 410))
            photo.paste(portrait.resize((side, side)), (420 * place, int(random.integers(0, PHOTO_WH[1] - side))))
        _save(photo, folder / f"{index:06d}.jpg")
    return folder


def _save(image: Image.Image, path: Path) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
