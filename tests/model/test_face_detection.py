"""Faces are found at any size and tilt, and brought to the geometry of the training crops."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import coffee

from model.cascade_detection import CascadeDetector
from model.configuration_age_gender import UTKFACE_LANDMARKS_XY
from model.face_alignment import Face, align, crop_matrix, resize_square
from model.face_detection import YUNET_FILE, YuNetDetector
from scripts.benchmarks.turned_faces import PORTRAIT, on_canvas, scaled, tilted


FACE_XYXY = np.array([175, 65, 272, 178])
YUNET = YuNetDetector(Path(__file__).parents[2] / "model" / YUNET_FILE)
CASCADE = CascadeDetector()
HEAD = PORTRAIT[20:220, 130:330]


def overlap(first_xyxy: np.ndarray, second_xyxy: np.ndarray) -> float:
    """Intersection over union."""
    inside = np.clip(np.minimum(first_xyxy, second_xyxy)[2:] - np.maximum(first_xyxy, second_xyxy)[:2], 0, None).prod()
    areas = sum((box[2:] - box[:2]).prod() for box in (first_xyxy, second_xyxy))
    return inside / (areas - inside)


@pytest.mark.parametrize("detector", [YUNET, CASCADE], ids=["yunet", "haar"])
@pytest.mark.parametrize("factor", [0.4, 1, 4], ids=["39 px", "97 px", "388 px in 2048"])
def test_finds_the_face(detector, factor: float):
    faces = detector.detect(scaled(factor))
    assert max(overlap(face.box_xyxy / factor, FACE_XYXY) for face in faces) > 0.7
    assert len(faces) <= (1 if detector is YUNET else 2)


SIZES_AND_PLACES = {
    "32 px in 1280 x 720": on_canvas(scaled(0.33), 1280, 720, 900, 400),
    "32 px in 1900 x 1000": on_canvas(scaled(0.33), 1900, 1000, 100, 700),
    "fills the picture": PORTRAIT[60:185, 170:275],
    "cut off by the edge": PORTRAIT[:, 200:],
    "a small picture of a face": cv2.resize(HEAD, (40, 40), interpolation=cv2.INTER_AREA),
    "very wide": on_canvas(HEAD, 3000, 200, 1500, 0),
}


@pytest.mark.parametrize("picture", SIZES_AND_PLACES.values(), ids=SIZES_AND_PLACES)
def test_yunet_finds_the_face_where_it_is_hard(picture: np.ndarray):
    assert len(YUNET.detect(np.ascontiguousarray(picture))) == 1


def test_yunet_finds_each_face_of_a_group_once_from_left_to_right():
    heads = cv2.resize(HEAD, (110, 110), interpolation=cv2.INTER_AREA)
    faces = YUNET.detect(np.tile(heads, (4, 5, 1)))
    assert len(faces) == 20
    centers_x = [face.box_xyxy[0] + face.box_xyxy[2] for face in faces]
    assert centers_x == sorted(centers_x)


def test_yunet_scores_and_landmarks():
    [face] = YUNET.detect(PORTRAIT)
    assert 0.9 < face.score <= 1
    x, y = face.landmarks_xy.T
    assert x[0] < x[2] < x[1]  # viewer's left eye, nose, right eye
    assert x[3] < x[4]
    assert max(y[:2]) < y[2] < min(y[3:])  # eyes, nose, mouth
    assert (face.landmarks_xy > FACE_XYXY[:2]).all()
    assert (face.landmarks_xy < FACE_XYXY[2:]).all()
    assert YUNET.detect(PORTRAIT, min_score=0.99) == []


NO_FACE = {
    "one pixel": np.zeros((1, 1, 3), np.uint8),
    "one row": np.zeros((1, 3000, 3), np.uint8),
    "a strip": np.zeros((640, 31, 3), np.uint8),
    "grey": np.full((300, 400, 3), 128, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
    "a cup of coffee": coffee(),
}


@pytest.mark.parametrize("detector", [YUNET, CASCADE], ids=["yunet", "haar"])
@pytest.mark.parametrize("picture", NO_FACE.values(), ids=NO_FACE)
def test_finds_nothing_where_nothing_is(detector, picture: np.ndarray):
    assert detector.detect(picture) == []


@pytest.mark.parametrize(("detector", "least"), [(YUNET, 0.8), (CASCADE, 0.65)], ids=["yunet", "haar"])
@pytest.mark.parametrize("degrees", [-25, 20, 30])
def test_tilted_faces_are_turned_upright(detector, least: float, degrees: float):
    upright, turned = (
        align(picture, detector.detect(picture)[0], UTKFACE_LANDMARKS_XY, 64) for picture in (PORTRAIT, tilted(degrees))
    )
    assert np.corrcoef(upright.ravel(), turned.ravel())[0, 1] > least


@pytest.mark.parametrize("side", [110, 300])
@pytest.mark.parametrize("degrees", range(30, 360, 30))
def test_turned_faces_are_found_and_turned_upright(side: int, degrees: int):
    """Lying people, scans and messengers that lose the orientation."""
    head = cv2.resize(PORTRAIT[0:260, 90:350], (side, side), interpolation=cv2.INTER_AREA)
    picture = on_canvas(head, 480, 480, 240 - side // 2, 240 - side // 2)
    [as_it_was] = YUNET.detect(picture)
    upright = align(picture, as_it_was, UTKFACE_LANDMARKS_XY, 64)
    matrix = cv2.getRotationMatrix2D((239.5, 239.5), -degrees, 1)
    turned = cv2.warpAffine(picture, matrix, (480, 480), borderValue=(120, 120, 120))
    [detected] = YUNET.detect(turned)
    [boxed] = YUNET.find_landmarks(turned, [Face.from_box(detected.box_xyxy, (480, 480))])
    for face in (detected, boxed):
        assert abs((face.roll_degrees - as_it_was.roll_degrees - degrees + 180) % 360 - 180) < 8
        assert face.is_roll_certain
        again = align(turned, face, UTKFACE_LANDMARKS_XY, 64)
        assert np.corrcoef(upright.ravel(), again.ravel())[0, 1] > 0.8


def test_a_near_face_hides_no_far_ones():
    places = [(150, 150), (1600, 400), (1250, 1000)]
    alone = np.full((1500, 2000, 3), 120, np.uint8)
    small = cv2.resize(HEAD, (40, 40), interpolation=cv2.INTER_AREA)  # a face of 18 pixels
    for x, y in places:
        alone[y : y + 40, x : x + 40] = small
    beside = alone.copy()
    beside[500:1300, 300:1100] = cv2.resize(HEAD, (800, 800), interpolation=cv2.INTER_CUBIC)
    assert len(YUNET.detect(alone)) == len(places)
    assert len(YUNET.detect(beside)) == len(places) + 1


def test_both_detectors_give_nearly_the_same_crop():
    first, second = (align(PORTRAIT, d.detect(PORTRAIT)[0], UTKFACE_LANDMARKS_XY, 64) for d in (YUNET, CASCADE))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.7


@pytest.mark.parametrize(
    "box_xyxy",
    [(175, 65, 272, 178), (155, 25, 292, 198), (183, 80, 264, 170), (190, 55, 287, 168)],
    ids=["as detected", "whole head", "tight", "beside"],
)
def test_landmarks_of_a_box_from_elsewhere(box_xyxy):
    [face] = YUNET.find_landmarks(PORTRAIT, [Face(np.array(box_xyxy, float))])
    [detected] = YUNET.detect(PORTRAIT)
    assert np.abs(face.landmarks_xy - detected.landmarks_xy).max() < 4
    assert (face.box_xyxy == box_xyxy).all()
    assert face.score is None


@pytest.mark.parametrize("box_xyxy", [(300, 300, 400, 400), (-50, -50, 10, 10), (500, 500, 900, 900)])
def test_box_without_a_face_stays_as_it_is(box_xyxy):
    face = Face(np.array(box_xyxy, float))
    assert YUNET.find_landmarks(PORTRAIT, [face]) == [face]
    assert align(PORTRAIT, face, UTKFACE_LANDMARKS_XY, 32).shape == (32, 32, 3)


@pytest.mark.parametrize(("scale", "degrees"), [(1, 0), (0.4, 12), (3.3, -28), (7, 175)])
def test_align_puts_landmarks_on_the_template(scale: float, degrees: float):
    """Discs drawn around a turned and scaled template come out on the template."""
    turn = scale * np.exp(1j * np.deg2rad(degrees))
    points = np.array(UTKFACE_LANDMARKS_XY) @ (1, 1j) * 112 * turn + 800 + 800j
    landmarks_xy = np.stack([points.real, points.imag], axis=1)
    y, x = np.mgrid[:1600, :1600] + 0.5
    size, template = 112, np.array(UTKFACE_LANDMARKS_XY) * 112
    for index in range(5):
        away = np.hypot(x - landmarks_xy[index, 0], y - landmarks_xy[index, 1])
        picture = np.repeat((255 * np.clip(6 * scale - away + 0.5, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)
        crop = align(picture, Face(np.zeros(4), landmarks_xy=landmarks_xy), UTKFACE_LANDMARKS_XY, size)[..., 0]
        shares = crop / crop.sum()
        along = np.arange(size) + 0.5
        center_xy = np.array([shares.sum(axis=0) @ along, shares.sum(axis=1) @ along])
        assert np.abs(center_xy - template[index]).max() < 0.3


def test_the_geometry_of_training_and_of_use_is_one():
    """A training crop whose landmarks are where the template says comes out of `align` as out of `resize_square`."""
    chip = align(PORTRAIT, YUNET.detect(PORTRAIT)[0], UTKFACE_LANDMARKS_XY, 200)
    on_template = Face(np.array([0.0, 0, 200, 200]), landmarks_xy=np.array(UTKFACE_LANDMARKS_XY) * 200)
    for size in (64, 112, 224):
        difference = align(chip, on_template, UTKFACE_LANDMARKS_XY, size).astype(int) - resize_square(chip, size)
        assert np.abs(difference).max() <= 1


def test_training_crop_found_in_a_picture_lies_where_it_was_put():
    chip = align(PORTRAIT, YUNET.detect(PORTRAIT)[0], UTKFACE_LANDMARKS_XY, 200)
    [face] = YUNET.detect(on_canvas(chip, 640, 480, 300, 150))
    corners_xy = (
        np.linalg.inv(np.vstack([crop_matrix(face, UTKFACE_LANDMARKS_XY, 200), (0, 0, 1)]))[:2]
        @ np.array([(0, 0, 1), (200, 200, 1)]).T
    )
    assert np.abs(corners_xy - np.array([[300, 500], [150, 350]])).max() < 8


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_averages(factor: int):
    picture = np.random.default_rng(0).integers(0, 256, (factor * 32, factor * 32, 3), dtype=np.uint8)
    blocks = picture.reshape(32, factor, 32, factor, 3).mean(axis=(1, 3))
    assert np.abs(resize_square(picture, 32) - blocks).max() <= 1


def test_resize_square():
    assert np.array_equal(resize_square(HEAD, 200), HEAD)
    wide = np.concatenate([np.zeros((200, 50, 3), np.uint8), HEAD, np.zeros((200, 50, 3), np.uint8)], axis=1)
    assert np.array_equal(resize_square(wide, 100), resize_square(HEAD, 100))
    assert (resize_square(np.full((1, 1, 3), 7, np.uint8), 32) == 7).all()


@pytest.mark.parametrize("detector", [YUNET, CASCADE], ids=["yunet", "haar"])
def test_threads_do_not_disturb_each_other(detector):
    """Pictures of different sizes through one detector at once: the network keeps its input size between calls."""
    pictures = [on_canvas(scaled(0.3 + 0.03 * i), 250 + 20 * i, 260 + 10 * i, 5 * i, 3 * i) for i in range(4)]
    expected = [[face.box_xyxy for face in detector.detect(picture)] for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(detector.detect, pictures * 2))
    for faces, boxes in zip(found, expected * 2, strict=True):
        assert np.array_equal([face.box_xyxy for face in faces], boxes)
