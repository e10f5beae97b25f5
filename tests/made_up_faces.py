"""Drawings that stand in for faces: what they show tells age (brightness) and gender (colour), so a model can learn them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def draw_face(age_years: int, gender: int, seed: int, size: int = 64) -> Image.Image:
    """An oval face with eyes and a mouth: brighter when older, reddish for gender 1, on noise that differs by `seed`."""
    noise = np.random.default_rng(seed).integers(0, 60, (size, size, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    draw = ImageDraw.Draw(picture)
    level = 60 + int(age_years * 1.6)
    draw.ellipse([size * 0.15, size * 0.05, size * 0.85, size * 0.95], fill=(level, level // (1 + gender), level // 2))
    for x in (0.35, 0.65):
        draw.ellipse([size * (x - 0.06), size * 0.35, size * (x + 0.06), size * 0.42], fill=(20, 20, 20))
    draw.line([size * 0.35, size * 0.7, size * 0.65, size * 0.7], fill=(80, 20, 20), width=max(1, size // 20))
    return picture


def write_utkface_folder(folder: Path, count: int, size: int = 64, seed: int = 0) -> Path:
    """Fill `folder` with `count` drawings named as UTKFace names its pictures; no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        age, gender, race = int(random.integers(1, 90)), int(random.integers(0, 2)), int(random.integers(0, 5))
        name = f"{age}_{gender}_{race}_2017010912{index:07d}.jpg.chip.jpg"
        draw_face(age, gender, seed=seed * 100_003 + index, size=size).save(folder / name, quality=95)
    return folder
