"""How well faces are detected, and how much worse the model answers on detected faces than on the crops themselves.

    python -m scripts.benchmarks.detection --dataset UTKFace.tar.gz

Held-out crops are pasted onto noise and gradients, 40 to 400 pixels wide and tilted by up to 30 degrees. Printed for each
detector: how many are found, how far the corners of the found crop are from the pasted ones, how many faces are found
where there is none, and how much the age error grows and the gender accuracy falls against the crop itself.

With `--turned_faces 80` only these are printed, on so many crops: how many far faces are found without and with a near one
in the picture, and the answers on faces in the middle of a grey canvas, turned by 0 to 345 degrees.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from skimage import data as pictures

from model.cascade_detection import CascadeDetector
from model.configuration_age_gender import UTKFACE_LANDMARKS_XY
from model.face_alignment import Face, align, crop_matrix
from model.face_detection import YUNET_FILE, YuNetDetector
from model.image_loading import load_rgb
from model.pipeline_age_gender import AgeGenderPipeline
from scripts.benchmarks.measuring import load_pipeline
from scripts.benchmarks.turned_faces import CANVAS_WH, measure_beside_near_face, measure_turned
from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.rows import load_row_picture
from trainer.recipe import parse_recipe


Detector = YuNetDetector | CascadeDetector

SIZES = ((40, 60), (60, 120), (120, 401))
TILTS = ((0, 10), (10, 20), (20, 31))  # degrees, either way
# scikit-image's packaged pictures without a person
WITHOUT_FACES = (
    *(pictures.brick, pictures.cell, pictures.chelsea, pictures.clock, pictures.coffee, pictures.coins, pictures.grass),
    *(pictures.gravel, pictures.hubble_deep_field, pictures.immunohistochemistry, pictures.logo, pictures.moon),
    *(pictures.page, pictures.retina, pictures.rocket, pictures.text),
)


@dataclass
class BenchmarkArguments:
    """What to measure."""

    model: str = field(default="model", metadata={"help": "Model folder."})
    yunet: str = field(default=f"model/{YUNET_FILE}", metadata={"help": "YuNet's file."})
    split: str = field(default="test", metadata={"help": "Split to take the crops from."})
    faces: int = field(default=600, metadata={"help": "How many crops to paste."})
    seed: int = field(default=0, metadata={"help": "Seed of the splits, sizes, angles, places and backgrounds."})
    turned_faces: int = field(
        default=0,
        metadata={"help": "Measure only so many crops: far ones beside a near one, and turned by 0 to 345 degrees."},
    )
    calibrate: bool = field(
        default=False,
        metadata={"help": "Print only where the crop lies relative to each detector's box, measured on train."},
    )


@dataclass(frozen=True, eq=False)
class Pasted:
    """A picture with one face crop at `corners_xy` (4, 2), `side` pixels wide and tilted clockwise."""

    image_rgb: np.ndarray
    corners_xy: np.ndarray
    side: int
    tilt_degrees: float


def paste(chip_rgb: np.ndarray, side: int, roll_degrees: float, random: np.random.Generator) -> Pasted:
    """Paste a crop somewhere on a background of noise, a gradient or blotches, rotated clockwise."""
    width, height = CANVAS_WH
    half_wh = np.full(2, side / 2)
    center = random.uniform(half_wh, np.maximum(np.array(CANVAS_WH) - half_wh, half_wh + 1))
    radians = np.deg2rad(roll_degrees)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    corners_xy = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * side
    corners_xy = (corners_xy - side / 2) @ turn.T + center
    shrinks = side < len(chip_rgb)
    small = cv2.resize(chip_rgb, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    shift = center - turn @ half_wh
    # in OpenCV a pixel's coordinates are those of its centre
    matrix = np.column_stack([turn, shift + turn @ (0.5, 0.5) - 0.5])
    face = cv2.warpAffine(small, matrix, CANVAS_WH, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(np.ones((side, side), np.float32), matrix, CANVAS_WH)[..., None]
    return Pasted(
        (face * mask + background(width, height, random) * (1 - mask)).astype(np.uint8), corners_xy, side, roll_degrees
    )


def background(width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """(height, width, 3) uint8 without a face: noise, blotches or a gradient."""
    kind = random.integers(3)
    if kind == 2:
        left, right = random.integers(0, 256, (2, 1, 1, 3))
        return (left + (right - left) * np.linspace(0, 1, width)[None, :, None]).repeat(height, axis=0).astype(np.uint8)
    noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return noise if kind == 0 else cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), noise, 0, 255, cv2.NORM_MINMAX)


def pasted_faces(chips: Sequence[np.ndarray], seed: int) -> list[Pasted]:
    """Every crop once: log-uniform in size, uniform in angle and place."""
    random = np.random.default_rng(seed)
    smallest, largest = np.log([SIZES[0][0], SIZES[-1][1]])
    return [
        paste(chip, int(np.exp(random.uniform(smallest, largest))), random.uniform(-30, 30), random) for chip in chips
    ]


def groups_of(all_pasted: Sequence[Pasted]) -> dict[str, np.ndarray]:
    """{name: mask (N,) of the pictures in that group}: by the face's size in pixels, by its tilt, and all."""
    sides, tilts = (np.array([getattr(pasted, name) for pasted in all_pasted]) for name in ("side", "tilt_degrees"))
    groups = {
        f"{low}-{high - 1}": (sides >= low) & (sides < high) for low, high in (*SIZES, (SIZES[1][0], SIZES[-1][1]))
    }
    for low, high in TILTS:
        groups[f"{low}-{high}°"] = (abs(tilts) >= low) & (abs(tilts) < high)
    return {**groups, f"{SIZES[0][0]}-{SIZES[-1][1] - 1}": np.ones(len(sides), bool)}


def place_of(pasted: Pasted) -> Face:
    """The face as a perfect detector would find it: its crop loses to size and tilt alone."""
    across, down = pasted.corners_xy[1] - pasted.corners_xy[0], pasted.corners_xy[3] - pasted.corners_xy[0]
    landmarks_xy = np.array(UTKFACE_LANDMARKS_XY) @ [across, down] + pasted.corners_xy[0]
    return Face(
        np.concatenate([pasted.corners_xy.min(axis=0), pasted.corners_xy.max(axis=0)]), landmarks_xy=landmarks_xy
    )


def match(faces: Sequence[Face], pasted: Pasted) -> tuple[Face | None, float]:
    """The face whose crop covers the pasted one, and the mean distance of its corners, as a fraction of the side."""
    best, best_error = None, np.inf
    for face in faces:
        matrix = crop_matrix(face, UTKFACE_LANDMARKS_XY, 1)
        corners_xy = (np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        is_there = np.linalg.norm((corners_xy - pasted.corners_xy).mean(axis=0)) < 0.35 * pasted.side
        error = np.linalg.norm(corners_xy - pasted.corners_xy, axis=1).mean() / pasted.side
        if is_there and error < best_error:
            best, best_error = face, error
    return best, best_error


def measure_detection(detector: Detector, all_pasted: Sequence[Pasted]) -> tuple[list[Face | None], list[str]]:
    """The face found in each picture, or None; and a table by size and tilt."""
    found: list[Face | None] = []
    measured: list[tuple[float, int, float]] = []
    for pasted in all_pasted:
        start = time.perf_counter()
        faces = detector.detect(pasted.image_rgb)
        seconds_taken = time.perf_counter() - start
        face, error = match(faces, pasted)
        found.append(face)
        measured.append((error, len(faces) - (face is not None), seconds_taken))
    errors, extra, seconds = np.array(measured).T
    lines = [
        f"{'pixels':>10} {'faces':>6} {'recall':>7} {'corner error: median':>21} {'95 %':>6} {'extra':>6} {'ms':>6}"
    ]
    for name, rows in groups_of(all_pasted).items():
        hits = errors[rows & np.isfinite(errors)]
        if len(hits):
            middle, worst = np.quantile(hits, (0.5, 0.95))
            lines.append(
                f"{name:>10} {rows.sum():>6} {len(hits) / rows.sum():>7.3f} {middle:>21.3f} {worst:>6.3f} "
                f"{extra[rows].sum():>6.0f} {1000 * np.median(seconds[rows]):>6.1f}"
            )
    return found, lines


def count_false_faces(detector: Detector, seed: int, generated: int = 40) -> str:
    """In how many pictures without a face one is found."""
    random = np.random.default_rng(seed)
    without = [load_rgb(picture()) for picture in WITHOUT_FACES]
    without += [background(*CANVAS_WH, random) for _ in range(generated)]
    counts = [len(detector.detect(image)) for image in without]
    return f"{np.count_nonzero(counts)} of {len(counts)} pictures without a face have one found in them"


def measure_parity(
    pipe: AgeGenderPipeline,
    chips: Sequence[np.ndarray],
    ages_years: np.ndarray,
    genders: np.ndarray,
    all_pasted: Sequence[Pasted],
    found: dict[str, list[Face | None]],
) -> list[str]:
    """How much worse the model answers on each detector's crops than on the pasted crop: a table by size and tilt."""
    config = pipe.model.config

    def predict(crops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        answers = [answers[0] for answers in pipe(crops, detect=False, batch_size=64)]
        genders = [max(answer["genders"], key=answer["genders"].get) for answer in answers]
        return np.array([a["age"] for a in answers]), np.array([config.gender_names.index(name) for name in genders])

    chip_ages, chip_genders = predict(list(chips))
    lines = [f"{'detector':>10} {'pixels':>10} {'faces':>6} {'MAE':>6} {'lost':>12} {'gender':>7} {'lost':>14}"]
    for name, faces in found.items():
        rows = np.array([index for index, face in enumerate(faces) if face is not None])
        crops = [align(all_pasted[i].image_rgb, faces[i], config.landmarks_xy, config.image_size) for i in rows]
        if not crops:
            continue
        ages, looks = predict(crops)
        for group, members in groups_of(all_pasted).items():
            part = members[rows]
            at = rows[part]
            if not len(at):
                continue
            errors, lost_years = np.abs(ages[part] - ages_years[at]), np.abs(chip_ages[at] - ages_years[at])
            correct, lost_correct = looks[part] == genders[at], chip_genders[at] == genders[at]
            lines.append(
                f"{name:>10} {group:>10} {len(at):>6} {errors.mean():>6.2f} "
                f"{_mean_and_error(errors - lost_years)} {100 * correct.mean():>6.1f}% "
                f"{_mean_and_error(100 * (lost_correct * 1.0 - correct))}%"
            )
    return lines


def _mean_and_error(differences: np.ndarray) -> str:
    return f"{differences.mean():>6.2f} ± {differences.std() / len(differences) ** 0.5:<4.2f}"


def calibrate(detector: Detector, chips: Sequence[np.ndarray]) -> str:
    """Mean corners of the crop as fractions of the detector's box, over upright crops with a margin around."""
    corners = []
    for chip in chips:
        margin = len(chip) // 2
        framed = cv2.copyMakeBorder(chip, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(128, 128, 128))
        for face in detector.detect(framed)[:1]:
            if face.roll_degrees is not None and abs(face.roll_degrees) < 3:
                at, extent = face.box_xyxy[:2], face.box_xyxy[2:] - face.box_xyxy[:2]
                corners.append([*(margin - at) / extent, *(margin + len(chip) - at) / extent])
    return f"{np.round(np.mean(corners, axis=0), 3).tolist()} over {len(corners)} of {len(chips)} crops"


def main(args: BenchmarkArguments, data_args: DataArguments) -> None:
    splits = load_faces(data_args, seed=args.seed)
    faces = splits["train" if args.calibrate else args.split]
    faces = faces.select(range(min(args.faces, len(faces))))
    chips = [load_row_picture(face) for face in faces]
    ages, genders = np.array(faces["age"]), np.array(faces["gender"])
    if args.turned_faces:
        count = args.turned_faces
        print(*measure_beside_near_face(YuNetDetector(args.yunet), chips[:count], args.seed), "", sep="\n", flush=True)
        print(*measure_turned(load_pipeline(args.model), chips[:count], ages[:count], genders[:count]), sep="\n")
        return
    detectors: dict[str, Detector] = {"yunet": YuNetDetector(args.yunet), "haar": CascadeDetector()}
    if args.calibrate:
        for name, detector in detectors.items():
            print(f"{name}: {calibrate(detector, chips)}")
        return
    all_pasted, found = pasted_faces(chips, args.seed), {}
    for name, detector in detectors.items():
        found[name], lines = measure_detection(detector, all_pasted)
        print(f"\n{name}", *lines, count_false_faces(detector, args.seed), sep="\n", flush=True)
    pipe = load_pipeline(args.model)
    found = {"exact": [place_of(pasted) for pasted in all_pasted], **found}
    print("\nLost against the crop itself, ± standard error; exact: the crop of a perfect detector")
    print(*measure_parity(pipe, chips, ages, genders, all_pasted, found), sep="\n")


if __name__ == "__main__":
    with errors_explained():
        main(*parse_recipe(sys.argv[1:], [BenchmarkArguments, DataArguments]))
