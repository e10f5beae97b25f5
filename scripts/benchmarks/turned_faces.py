"""Faces at other sizes, tilts and places in a picture; and how turned faces are answered, and how many far faces are found
beside a near one: tables of `scripts.benchmarks.detection`.
"""

import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from skimage.data import astronaut

from model.face_detection import YuNetDetector
from model.pipeline_age_gender import AgeGenderPipeline


PORTRAIT = astronaut()  # (512, 512, 3) uint8

CANVAS_WH = (640, 480)  # of the pictures that crops are pasted into
FAR_SIZES = ((30, 50), (50, 80), (80, 120))  # pixels of a crop in a picture of 4000 x 3000


def scaled(factor: float) -> np.ndarray:
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(PORTRAIT, None, fx=factor, fy=factor, interpolation=interpolation)


def tilted(degrees: float) -> np.ndarray:
    """The portrait turned clockwise about the face."""
    matrix = cv2.getRotationMatrix2D((224, 120), -degrees, 1)
    return cv2.warpAffine(PORTRAIT, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)


def on_canvas(image_rgb: np.ndarray, width: int, height: int, x: int, y: int) -> np.ndarray:
    """A grey picture, (height, width, 3), with another in it whose upper left corner lies at (x, y)."""
    canvas = np.full((height, width, 3), 120, np.uint8)
    canvas[y : y + image_rgb.shape[0], x : x + image_rgb.shape[1]] = image_rgb
    return canvas


def measure_turned(
    pipe: AgeGenderPipeline, chips: Sequence[np.ndarray], ages_years: np.ndarray, genders: np.ndarray, step: int = 15
) -> list[str]:
    """The answers on crops turned clockwise in the middle of a grey canvas: a line for each angle.

    "More" and "less" compare each answer with that on the same face upright, ± 1.96 standard errors of the difference.
    """
    names = pipe.model.config.gender_names
    lines = [
        f"{'degrees':>8} {'faces':>6} {'found':>6} {'abstained':>10} {'roll correct':>12} {'MAE':>6} {'more':>14} "
        f"{'gender':>7} {'less':>14} {'adults under 13':>16}"
    ]
    upright: tuple[np.ndarray, np.ndarray] | None = None
    for degrees in range(0, 360, step):
        turned = [turned_on_grey(chip, degrees) for chip in chips]
        answers = [_largest(faces) for faces in pipe(turned, batch_size=64)]
        answered = np.array([index for index, face in enumerate(answers) if face and not face["abstained"]], int)
        faces = [face for face in answers if face and not face["abstained"]]
        rolls = np.array([face["roll_degrees"] for face in faces])
        ages = np.array([face["age"] for face in faces])
        looks = np.array([names.index(max(face["genders"], key=face["genders"].get)) for face in faces])
        # Of faces without an answer both are NaN.
        errors_years, are_correct = np.full((2, len(chips)), np.nan)
        errors_years[answered] = np.abs(ages - ages_years[answered])
        are_correct[answered] = looks == genders[answered]
        upright = upright or (errors_years, are_correct)
        is_correct_roll = np.abs((rolls - degrees + 180) % 360 - 180) < 25
        found, is_adult = sum(face is not None for face in answers), ages_years[answered] >= 18
        lines.append(
            f"{degrees:>8} {len(chips):>6} {found:>6} {found - len(faces):>10} {is_correct_roll.sum():>12} "
            f"{np.nanmean(errors_years):>6.2f} {_mean_and_margin(errors_years - upright[0])} "
            f"{100 * np.nanmean(are_correct):>6.1f}% {_mean_and_margin(100 * (upright[1] - are_correct))} "
            f"{(ages[is_adult] < 13).sum():>16}"
        )
    return lines


def _mean_and_margin(differences: np.ndarray) -> str:
    """The mean of paired differences, NaN where one of the two is missing, with half of its 95 % interval."""
    known = differences[np.isfinite(differences)]
    return f"{known.mean():>+7.2f} ± {1.96 * known.std() / len(known) ** 0.5:<4.2f}"


def measure_beside_near_face(detector: YuNetDetector, chips: Sequence[np.ndarray], seed: int) -> list[str]:
    """How many far faces are found in pictures of 4000 x 3000 without and with a near face: a line for each size.

    Twelve crops a picture; the near face is the next crop at 1,000 pixels.
    """
    random = np.random.default_rng(seed)
    lines = [f"{'pixels':>8} {'faces':>6} {'found alone':>12} {'beside':>7} {'seconds alone':>14} {'beside':>7}"]
    for low, high in FAR_SIZES:
        found, seconds, count = [0, 0], [0.0, 0.0], 0
        for start in range(0, len(chips) - 12, 13):
            alone = np.full((3000, 4000, 3), 128, np.uint8)
            middles = [(2250 + 500 * column, 300 + 800 * row) for row in range(3) for column in range(4)]
            for chip, (x, y) in zip(chips[start : start + 12], middles, strict=True):
                side = int(random.integers(low, high))
                alone[y : y + side, x : x + side] = cv2.resize(chip, (side, side), interpolation=cv2.INTER_AREA)
            beside = alone.copy()
            beside[1000:2000, 500:1500] = cv2.resize(chips[start + 12], (1000, 1000), interpolation=cv2.INTER_CUBIC)
            count += 12
            for index, picture in enumerate((alone, beside)):
                begin = time.perf_counter()
                centers = [face.center_xy for face in detector.detect(picture)]
                seconds[index] += time.perf_counter() - begin
                found[index] += sum(
                    any(np.linalg.norm(center - (x + side / 2, y + side / 2)) < side for center in centers)
                    for x, y in middles
                )
        pictures_count = max(count // 12, 1)
        lines.append(
            f"{low:>4}-{high - 1:<3} {count:>6} {found[0]:>12} {found[1]:>7} {seconds[0] / pictures_count:>14.2f} "
            f"{seconds[1] / pictures_count:>7.2f}"
        )
    return lines


def turned_on_grey(chip_rgb: np.ndarray, degrees: float, side: int = 160) -> np.ndarray:
    """A canvas with the crop in its middle, `side` pixels wide and turned clockwise."""
    width, height = CANVAS_WH
    small = cv2.resize(chip_rgb, (side, side), interpolation=cv2.INTER_AREA)
    canvas = np.full((height, width, 3), 128, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    canvas[top : top + side, left : left + side] = small
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    return cv2.warpAffine(canvas, matrix, CANVAS_WH, borderValue=(128, 128, 128))


def _largest(faces: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(faces, key=lambda face: face["box"][2] - face["box"][0], default=None)
