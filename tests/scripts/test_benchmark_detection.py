"""The benchmark finds what it pasted, where it pasted it."""

from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from model.cascade_detection import CascadeDetector
from model.configuration_age_gender import UTKFACE_LANDMARKS_XY
from model.face_alignment import Face, align
from model.face_detection import YUNET_FILE, YuNetDetector
from model.pipeline_age_gender import AgeGenderPipeline
from scripts.benchmarks.detection import (
    calibrate,
    count_false_faces,
    match,
    measure_detection,
    measure_parity,
    paste,
    pasted_faces,
)
from scripts.benchmarks.turned_faces import measure_turned
from tests.support.tiny_model import IMAGE_SIZE, tiny_model
from trainer.build_model import make_image_processor


YUNET = YuNetDetector(Path(__file__).parents[2] / "model" / YUNET_FILE)
CHIP = align(astronaut(), YUNET.detect(astronaut())[0], UTKFACE_LANDMARKS_XY, 200)


@pytest.mark.parametrize(("side", "degrees"), [(40, 0), (90, -20), (300, 30)])
def test_pasted_face_is_matched(side: int, degrees: float):
    pasted = paste(CHIP, side, degrees, np.random.default_rng(0))
    face, error = match(YUNET.detect(pasted.image_rgb), pasted)
    assert face is not None
    assert error < 0.12


def test_what_is_found_elsewhere_is_no_match():
    pasted = paste(CHIP, 60, 0, np.random.default_rng(0))
    assert match([Face(np.array([0.0, 0, 40, 40])), Face(np.array([0.0, 0, 600, 470]))], pasted)[0] is None


def test_tables():
    all_pasted = pasted_faces([CHIP] * 6, seed=0)
    found = {}
    for name, detector in {"yunet": YUNET, "haar": CascadeDetector()}.items():
        found[name], lines = measure_detection(detector, all_pasted)
        total = dict(zip(["pixels", "faces", "recall"], lines[-1].split(), strict=False))
        assert total["pixels"] == "40-400"
        assert total["faces"] == "6"
        assert float(total["recall"]) == np.mean([face is not None for face in found[name]]).round(3)
    assert all(found["yunet"])

    pipe = AgeGenderPipeline(model=tiny_model(), image_processor=make_image_processor(IMAGE_SIZE), device="cpu")
    ages, genders = np.full(6, 30), np.ones(6, int)
    lines = measure_parity(pipe, [CHIP] * 6, ages, genders, all_pasted, found)
    answers = [pipe(CHIP, detect=False)[0]["age"]]
    assert len(lines) >= 3
    assert float(lines[1].split()[3]) == pytest.approx(abs(answers[0] - 30), abs=2)


def test_false_faces():
    assert count_false_faces(YUNET, seed=0, generated=2) == "0 of 18 pictures without a face have one found in them"


def test_calibration_gives_back_the_crop():
    text = calibrate(YUNET, [CHIP, CHIP])
    assert text.endswith("over 2 of 2 crops")
    box_crop = np.array(text[1 : text.index("]")].split(","), float)
    [face] = YUNET.detect(astronaut())
    crop = align(astronaut(), Face(face.box_xyxy, box_crop=box_crop), UTKFACE_LANDMARKS_XY, 64)
    aligned = align(astronaut(), face, UTKFACE_LANDMARKS_XY, 64)
    assert np.corrcoef(crop.ravel(), aligned.ravel())[0, 1] > 0.8


def test_turned_faces():
    pipe = AgeGenderPipeline(model=tiny_model(), image_processor=make_image_processor(IMAGE_SIZE), device="cpu")
    lines = measure_turned(pipe, [CHIP], np.array([30]), np.array([1]), step=90)
    assert [line.split()[:5] for line in lines[1:]] == [[str(at), "1", "1", "0", "1"] for at in (0, 90, 180, 270)]
