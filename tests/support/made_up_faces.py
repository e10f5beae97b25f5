"""Drawings in place of faces: brightness encodes age and colour encodes gender, so that a model can learn them."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_face(age_years: int, gender: int, seed: int, size: int = 64) -> Image.Image:
    """A colour, brighter when older and reddish for gender 1, over a random pattern, so that no two are near-duplicates."""
    pattern = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    level = 60 + int(age_years * 1.6)
    color = Image.new("RGB", (size, size), (level, level // (1 + gender), level // 2))
    return Image.blend(
        color, Image.fromarray(pattern).resize((size, size), Image.Resampling.BICUBIC).convert("RGB"), 0.4
    )


def write_utkface_folder(folder: Path, count: int, size: int = 64, seed: int = 0) -> Path:
    """Fill `folder` with `count` drawings with UTKFace names, no two of them near-duplicates."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        age, gender, race = int(random.integers(1, 90)), int(random.integers(0, 2)), int(random.integers(0, 5))
        name = f"{age}_{gender}_{race}_2017010912{index:07d}.jpg.chip.jpg"
        draw_face(age, gender, seed=seed * 100_003 + index, size=size).save(folder / name, quality=95)
    return folder


def write_noise(folder: Path, count: int) -> None:
    """Pictures of noise under UTKFace names: no two alike, and nothing to find out from them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        age, gender, race = rng.integers(1, 90), rng.integers(0, 2), rng.integers(0, 5)
        noise = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        noise.save(folder / f"{age}_{gender}_{race}_2017010912{index:07d}.jpg.chip.jpg")
