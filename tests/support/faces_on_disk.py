"""Write made-up faces as files and archives, and make near-duplicates of them, for the tests of the data."""

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from tests.support.made_up_faces import draw_face


def draw_detailed_face(seed: int, size: int = 120) -> Image.Image:
    """A drawing with detail at every scale, like a photograph, so that its near-duplicates can be recognised."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                (size, size), Image.Resampling.BICUBIC
            ),
            dtype=np.float32,
        )
        for side in (4, 9, 20, 40)
    ]
    return Image.fromarray((np.tensordot([0.3, 0.3, 0.25, 0.15], layers, axes=1)).astype(np.uint8))


def as_jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


NEAR_DUPLICATES = {
    "re-encoded": lambda picture: Image.open(io.BytesIO(as_jpeg(picture, quality=40))),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "grey": lambda picture: picture.convert("L"),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(1.5)),
    "smaller": lambda picture: picture.resize((80, 80)),
    "cropped": lambda picture: picture.crop((6, 3, 117, 114)),
    "turned": lambda picture: picture.rotate(6, Image.Resampling.BICUBIC),
    "turned and mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(-5),
}


def face_files(count: int, seed: int = 0) -> dict[str, bytes]:
    """{UTKFace name: JPEG} of `count` faces of all ages, both genders and five races, no two of them duplicates."""
    random = np.random.default_rng(seed)
    files = {}
    for index in range(count):
        age, gender, race = int(random.integers(1, 90)), int(random.integers(0, 2)), int(random.integers(0, 5))
        face = draw_face(age, gender, seed=seed * 100_003 + index, size=48)
        files[f"{age}_{gender}_{race}_2017010912{index:07d}.jpg.chip.jpg"] = as_jpeg(face)
    return files


def utkface_like() -> dict[str, bytes]:
    """Faces with all the flaws of UTKFace: duplicates, contradicting labels, unreadable files and names."""
    files = face_files(60)
    for index in range(12):
        picture = draw_detailed_face(index, size=60)
        copy = list(NEAR_DUPLICATES.values())[index % 3](picture).convert("RGB")
        ages = (30, 30 + 2 * index)  # up to 22 years apart
        files[f"{ages[0]}_0_0_2018{index:013d}.jpg"] = as_jpeg(picture)
        files[f"{ages[1]}_{int(index == 1)}_0_2019{index:013d}.jpg"] = as_jpeg(copy)
    return files | {
        "nobody.jpg": as_jpeg(draw_detailed_face(99)),
        "20_0_0_20170101.jpg": b"text",
        "readme.txt": b"hello",
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_archive(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """A .tar, .tar.gz, .tgz or .zip with these members in this order; a name may occur more than once."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files:
                archive.writestr(zipfile.ZipInfo(name), content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
