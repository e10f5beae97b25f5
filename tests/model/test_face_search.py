"""YuNet's network gives what OpenCV's own class gives, on both engines; and the fine search misses nothing that it can find."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import coffee

from model.face_alignment import HalvedPicture, shrink, square_matrix, warp_square
from model.face_detection import YUNET_FILE, YuNetDetector
from model.face_network import STEPS_PER_PIXEL, YuNetNetwork
from model.face_search import CANDIDATE_SCORE, COARSE_SIDE, find_regions, search
from scripts.benchmarks.turned_faces import PORTRAIT, on_canvas, scaled


WEIGHTS = Path(__file__).parents[2] / "model" / YUNET_FILE
HEAD = PORTRAIT[20:220, 130:330]
PICTURES = {
    "one face": PORTRAIT,
    "sides that are no multiples of 32": PORTRAIT[:333, 100:477],
    "twelve faces": np.tile(cv2.resize(HEAD, (64, 64), interpolation=cv2.INTER_AREA), (3, 4, 1)),
    "no face": coffee(),
}


@pytest.mark.parametrize("engine", ["onnxruntime", "opencv"])
@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize("score", [0.2, 0.6])
def test_network_finds_what_opencv_finds(engine: str, picture: np.ndarray, score: float):
    height, width = picture.shape[:2]
    detector = cv2.FaceDetectorYN.create(str(WEIGHTS), "", (width, height), score, 0.3, 5000)
    expected = detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    rows = YuNetNetwork(WEIGHTS, engine).detect(picture, score)
    assert rows.shape == ((0, 15) if expected is None else expected.shape)
    if expected is not None:
        assert np.abs(rows[:, :14] - expected[:, :14]).max() < 0.5 / STEPS_PER_PIXEL + 0.001
        assert np.all(rows[:, :14] * STEPS_PER_PIXEL % 1 == 0)
        assert np.abs(rows[:, 14] - expected[:, 14]).max() < 0.001


@pytest.mark.parametrize("engine", ["onnxruntime", "opencv"])
@pytest.mark.parametrize("shape_hw", [(30, 1920), (8, 700), (1920, 20)])
def test_a_strip_holds_no_face(engine: str, shape_hw: tuple[int, int]):
    """OpenCV computes faces of infinite size in pictures of up to 32 pixels in height, at the finest scale too."""
    strip = np.random.default_rng(0).integers(0, 256, (*shape_hw, 3), dtype=np.uint8)
    network = YuNetNetwork(WEIGHTS, engine)
    assert np.isfinite(network.candidates(strip, 0.0)).all()
    assert [len(found) for found in search(network, strip)] == [0, 0]


def test_without_onnxruntime_the_faces_are_the_same(monkeypatch: pytest.MonkeyPatch):
    expected = YuNetDetector(WEIGHTS).detect(PORTRAIT)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    faces = YuNetDetector(WEIGHTS).detect(PORTRAIT)
    assert len(faces) == len(expected) == 1
    assert np.abs(faces[0].landmarks_xy - expected[0].landmarks_xy).max() < 0.01


@pytest.mark.parametrize(
    ("boxes_xywh", "regions"),
    [
        ([], []),
        ([(100, 100, 20, 20)], [(64, 64, 160, 160)]),
        ([(100, 100, 20, 20), (104, 96, 16, 16)], [(64, 64, 160, 160)]),  # one place
        ([(120, 100, 20, 20)], [(64, 64, 192, 160)]),  # across two blocks
        ([(-5, -5, 20, 20), (630, 470, 30, 30)], [(0, 0, 64, 64), (576, 416, 640, 480)]),  # at the edges
        ([(16, 16, 4, 4), (560, 400, 20, 20)], [(0, 0, 64, 64), (512, 352, 640, 480)]),  # apart
        ([(x, y, 8, 8) for x in range(0, 640, 40) for y in range(0, 480, 40)], [(0, 0, 640, 480)]),  # everywhere
    ],
)
def test_regions_around_hints(boxes_xywh: list, regions: list):
    assert find_regions(np.array(boxes_xywh, float).reshape(-1, 4), (480, 640)) == regions


@pytest.mark.parametrize(
    ("width", "height", "side"), [(1280, 720, 24), (1920, 1080, 30), (4000, 3000, 62)], ids=["small", "HD", "12 MP"]
)
def test_far_faces_are_found_as_by_a_search_of_the_whole_picture_at_the_fine_scale(width: int, height: int, side: int):
    network = YuNetNetwork(WEIGHTS)
    head = cv2.resize(HEAD, (2 * side, 2 * side), interpolation=cv2.INTER_AREA)  # a face `side` pixels wide
    picture = on_canvas(scaled(1), width, height, width // 2, height // 4)
    places = [(width // 9, height // 5), (width // 8, 4 * height // 5), (width - 3 * side, height // 9)]
    for x, y in places:
        picture[y : y + 2 * side, x : x + 2 * side] = head
    fine = shrink(picture, 1920 / width)
    for rows, scale in (
        (search(network, picture)[0], 1),
        (network.detect(fine, CANDIDATE_SCORE), width / fine.shape[1]),
    ):
        centers_xy = (rows[:, :2] + rows[:, 2:4] / 2) * scale
        for place in places:
            assert np.linalg.norm(centers_xy - place - side, axis=1).min() < side / 2


def test_a_search_of_a_large_empty_picture_is_hardly_more_than_a_coarse_one():
    pixels: list[int] = []

    class Counting(YuNetNetwork):
        def candidates(self, image_rgb, least_score):
            pixels.append(image_rgb.shape[0] * image_rgb.shape[1])
            return super().candidates(image_rgb, least_score)

    network = Counting(WEIGHTS)
    search(network, on_canvas(cv2.resize(PORTRAIT, (700, 700)), 1280, 720, 300, 10))
    assert sum(pixels) < 1.8 * COARSE_SIDE * 360


@pytest.mark.parametrize("factor", [1, 2.3, 5])
@pytest.mark.parametrize("degrees", [0, 40])
def test_crops_of_halved_pictures_are_those_of_the_picture(factor: float, degrees: float):
    picture = scaled(factor)
    matrix = square_matrix(complex(225, 120) * factor, 150 * factor * np.exp(1j * np.deg2rad(degrees)), 80)
    expected = warp_square(picture, matrix, 80, cv2.BORDER_CONSTANT).astype(int)
    crop = HalvedPicture(picture).warp_square(matrix, 80)
    assert np.abs(crop - expected).mean() < 4  # of 255: its pixels were averaged twice
