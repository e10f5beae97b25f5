"""The face detector YuNet, which also finds landmarks."""

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from .configuration_age_gender import UTKFACE_LANDMARKS_XY
from .face_alignment import Face, crop_matrix, roll_of, shrink, warp_square
from .face_orientation import SHEET_WH, Turn, are_apart, draw_turns, read_turns
from .model_files import ModelFileError, one_line


YUNET_FILE = "face_detection_yunet.onnx"  # ShiqiYu/libfacedetection.train, Apache-2.0

# YuNet finds faces of about 10 to 500 pixels, so it searches large pictures at several scales (longest sides in pixels).
COARSE_SIDE, FINE_SIDES = 640, (1280, 1920)
CANDIDATE_SCORE = 0.4  # of a first detection; `min_score` applies to the refined one
LIKELY_SCORE = 0.6  # a first detection from here on is looked at again, if the close look is not enough
TURN_SCORE = 0.2  # of a detection among the turns of one face
# 54 % of close looks at 300 upright faces score 0.92; none of 1,077 wrong ones do. At 0.91: 86 %, and 4 of 1,077.
UPRIGHT_SCORE = 0.92
SAME_ROLL_DEGREES = 10  # a close look this near to a proposed turn needs no second one at that turn
CLEAR_LEAD = 0.03  # an orientation is certain if its score is higher than any other's by this
CLOSE_MARGIN, OTHER_MARGINS = 0.25, (0.1, 0.5, 0.75)  # of a close look, by the side of the aligned crop
YUNET_CROP_SIDE = 160  # pixels of the crop around a first detection, for the second one
MIN_INPUT_SIDE = 64
MAX_FACES = 300  # bounds the time that one picture can take


class YuNetDetector:
    """YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) through OpenCV, with five landmarks."""

    def __init__(self, weights_file: str | Path):
        self._weights_file = str(weights_file)
        # One network a scale, because OpenCV plans a network again whenever its input size changes. None for the fine
        # scales: it would hold up to 350 MB, and creating one takes a fortieth of the time that it runs.
        self._nets = {side: self._net(side) for side in (YUNET_CROP_SIDE, COARSE_SIDE // 2, COARSE_SIDE)}
        self._turns_net = cv2.FaceDetectorYN.create(self._weights_file, "", SHEET_WH, TURN_SCORE, 0.3, 5000)
        self._lock = threading.Lock()  # a network keeps its input size and buffers between calls

    @classmethod
    def load(cls, weights_file: str | Path) -> "YuNetDetector":
        """Raises `ModelFileError` if the file is damaged, or another network's."""
        try:
            detector = cls(weights_file)
            detector.detect(np.zeros((MIN_INPUT_SIDE, MIN_INPUT_SIDE, 3), np.uint8))
        except Exception as error:  # OpenCV's own, and of what another network answers
            raise ModelFileError(
                f"{weights_file} is not YuNet's file: {one_line(error)}. Copy it from model/."
            ) from error
        return detector

    def __reduce__(self) -> tuple:  # networks and locks cannot be pickled for a DataLoader's worker processes
        return YuNetDetector, (self._weights_file,)

    def detect(self, image_rgb: np.ndarray, min_score: float = 0.7) -> list[Face]:
        """(H, W, 3) uint8 -> at most `MAX_FACES` faces from left to right.

        Args:
            min_score: drop detections with a lower score, 0 to 1.
        """
        longest = max(image_rgb.shape[:2])
        rows = self._detect_at(image_rgb, COARSE_SIDE)
        for previous_side, side in pairwise((COARSE_SIDE, *FINE_SIDES)):
            if longest > previous_side:  # whatever was found: one near face must not hide the far ones
                rows = _merge(rows, self._detect_at(image_rgb, side))
        faces = self._look_closely(image_rgb, rows, min_score)
        for search_again in (self._detect_filling_face, self._detect_in_turned_picture):
            if not faces:
                more_rows = search_again(image_rgb)
                # Where the close look saw no face in what was found at first, a further find has to be likelier.
                more_rows = more_rows[more_rows[:, 14] >= (LIKELY_SCORE if len(rows) else CANDIDATE_SCORE)]
                faces = self._look_closely(image_rgb, more_rows, min_score)
        return sorted(faces, key=lambda face: face.box_xyxy[0] + face.box_xyxy[2])

    def find_landmarks(self, image_rgb: np.ndarray, face: Face) -> Face:
        """Add landmarks and roll to a face whose box another detector found; the same face if none is seen in the box."""
        nearby = self._detect_in_crop(image_rgb, face, margin=0.5)
        # A box says nothing of the roll: the close look begins upright, and may stop just before it reaches a proposed turn.
        found = self._find_upright(image_rgb, face, nearby, same_roll_degrees=0)
        return replace(found, score=face.score) if found else face

    def _look_closely(self, image_rgb: np.ndarray, rows: np.ndarray, min_score: float) -> list[Face]:
        """First detections, (N, 15) -> those that are faces of at least `min_score` on a close look, each once."""
        faces: list[Face] = []
        for row in rows[rows[:, 14].argsort()[::-1][:MAX_FACES]]:
            candidate = _face_from_row(row)
            face = self._find_upright(image_rgb, candidate, candidate)
            if row[14] >= LIKELY_SCORE and (face is None or _score(face) < min_score):
                # Blurred faces, profiles and faces that fill the picture score higher when seen larger or smaller.
                looks = [self._detect_in_crop(image_rgb, face or candidate, margin) for margin in OTHER_MARGINS]
                face = max((look for look in (*looks, face) if look), key=_score, default=None)
            if face is None or _score(face) < min_score:
                continue
            # Two first detections may be refined to the same face.
            if all(np.linalg.norm(face.center_xy - other.center_xy) > other.width / 4 for other in faces):
                faces.append(face)
        return faces

    def _find_upright(
        self,
        image_rgb: np.ndarray,
        candidate: Face,
        nearby: Face | None,
        same_roll_degrees: float = SAME_ROLL_DEGREES,
    ) -> Face | None:
        """The face by a close look that begins at `nearby`, and by its turns where that is not surely upright."""
        found = nearby and self._refine(image_rgb, nearby)
        is_surely_upright = found is not None and _score(found) >= UPRIGHT_SCORE
        return found if is_surely_upright else self._turn_upright(image_rgb, candidate, found, same_roll_degrees)

    def _turn_upright(
        self, image_rgb: np.ndarray, candidate: Face, found: Face | None, same_roll_degrees: float
    ) -> Face | None:
        """The face in its most likely orientation, and whether that is certain.

        The turns of `face_orientation` propose an orientation, and a second one where it leads by less than
        `CLEAR_LEAD`. Each goes through `_refine` unless `found` is within `same_roll_degrees` of it: a close look that
        begins too far away stops before it is upright. The highest score wins. It is certain if the turns clearly
        propose it, or if its score leads by `CLEAR_LEAD`.

        Args:
            candidate: what was found at first, or the box that was given.
            found: what `_refine` made of it.
            same_roll_degrees: see above.
        """
        turns = self._detect_turns(image_rgb, candidate)
        if not turns:
            return found
        best = turns[0]
        rival = next((turn for turn in turns if are_apart(turn.roll_degrees, best.roll_degrees)), None)
        is_clear = rival is None or best.score - rival.score >= CLEAR_LEAD
        tried = [found] if found else []
        for turn in (best,) if rival is None or is_clear else (best, rival):
            if all(are_apart(turn.roll_degrees, _roll(face), same_roll_degrees) for face in tried):
                face = self._refine(image_rgb, replace(candidate, landmarks_xy=turn.landmarks_xy))
                tried += [face] if face else []
        if not tried:
            return None
        chosen = max(tried, key=_score)
        others = [_score(face) for face in tried if are_apart(_roll(face), _roll(chosen))]
        is_proposed = is_clear and not are_apart(_roll(chosen), best.roll_degrees)
        return replace(chosen, is_roll_certain=is_proposed or _score(chosen) - max(others, default=0.0) >= CLEAR_LEAD)

    def _detect_turns(self, image_rgb: np.ndarray, face: Face) -> list[Turn]:
        sheet, matrices = draw_turns(image_rgb, face.box_xyxy)
        with self._lock:
            _, rows = self._turns_net.detect(cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
        return [] if rows is None else read_turns(rows, matrices)

    def _refine(self, image_rgb: np.ndarray, face: Face) -> Face | None:
        """Detect the face again in its own upright crop, for better landmarks and score; None if it is not found there.

        In the whole picture YuNet's landmarks are coarse on small faces and too upright on tilted ones. On faces of 40
        to 60 pixels tilted by up to 30 degrees the crop's corners are off by 16 % of its side, and by 5 % after this.
        The second score also rejects false detections.
        """
        refined = None
        for _ in range(3):
            found = self._detect_in_crop(image_rgb, refined or face, CLOSE_MARGIN)
            if found is None:
                break
            # The ratio of the two similarities, as one complex number, is how far the crop turned and scaled.
            before, after = (complex(*crop_matrix(f, UTKFACE_LANDMARKS_XY, 1)[:, 0]) for f in (refined or face, found))
            refined, change = found, after / before
            if abs(np.angle(change, deg=True)) < 8 and 0.9 < abs(change) < 1.1:
                break
        return refined

    def _detect_in_crop(self, image_rgb: np.ndarray, face: Face, margin: float) -> Face | None:
        """Detect in the face's crop plus `margin` of its side all around; None if the face is not found at its middle."""
        side = YUNET_CROP_SIDE / (1 + 2 * margin)
        matrix = crop_matrix(face, UTKFACE_LANDMARKS_XY, side)
        matrix[:, 2] += margin * side
        crop = warp_square(image_rgb, matrix, YUNET_CROP_SIDE, cv2.BORDER_CONSTANT)
        rows = self._detect_at(crop, YUNET_CROP_SIDE)
        landmarks_xy = rows[:, 4:14].reshape(-1, 5, 2)
        # By landmarks and not by boxes, because on profiles the two have different centres.
        expected_xy = (np.mean(UTKFACE_LANDMARKS_XY, axis=0) + margin) * side
        distances = np.linalg.norm(landmarks_xy.mean(axis=1) - expected_xy, axis=1)
        if not len(rows) or distances.min() > side / 4:
            return None
        nearest = distances.argmin()
        in_picture_xy = (landmarks_xy[nearest] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        score, roll_degrees = float(rows[nearest, 14]), roll_of(in_picture_xy)
        return replace(face, landmarks_xy=in_picture_xy, score=score, roll_degrees=roll_degrees)

    def _net(self, side: int) -> cv2.FaceDetectorYN:
        return cv2.FaceDetectorYN.create(self._weights_file, "", (side, side), CANDIDATE_SCORE, 0.3, 5000)

    def _detect_in_turned_picture(self, image_rgb: np.ndarray) -> np.ndarray:
        """Turn the picture clockwise by 90 degrees: of faces that lie on their side a quarter is not found at first."""
        rows = self._detect_at(np.ascontiguousarray(np.rot90(image_rgb, -1)), COARSE_SIDE)
        points_xy = rows[:, 4:14].reshape(-1, 5, 2)
        height = image_rgb.shape[0]
        back_xy = np.stack([points_xy[..., 1], height - points_xy[..., 0]], axis=2).reshape(-1, 10)
        box_xywh = np.stack([rows[:, 1], height - rows[:, 0] - rows[:, 2], rows[:, 3], rows[:, 2]], axis=1)
        return np.concatenate([box_xywh, back_xy, rows[:, 14:]], axis=1)

    def _detect_filling_face(self, image_rgb: np.ndarray) -> np.ndarray:
        """Shrink and pad the picture: a face that fills it is too large for the network and has no surroundings."""
        small = shrink(image_rgb, 0.75 * COARSE_SIDE / 2 / max(image_rgb.shape[:2]))
        margin = max(small.shape[:2]) // 6
        # With black padding 98 % of faces cut 20 % inside UTKFace's crop are found, with the edge repeated 57 %.
        rows = self._detect_at(
            cv2.copyMakeBorder(small, margin, margin, margin, margin, cv2.BORDER_CONSTANT), COARSE_SIDE // 2
        )
        rows[:, [0, 1, *range(4, 14)]] -= margin
        rows[:, :14] *= np.tile(_scales_xy(image_rgb, small), 7)
        return rows

    def _detect_at(self, image_rgb: np.ndarray, longest_side: int) -> np.ndarray:
        """(N, 15) in pixels of `image_rgb`: x, y, width, height, five landmarks, score. It never enlarges the picture."""
        small = shrink(image_rgb, longest_side / max(image_rgb.shape[:2]))
        # OpenCV 4.14 finds faces of infinite size, with score 1, in a strip of up to 32 pixels.
        missing = [max(MIN_INPUT_SIDE - side, 0) for side in small.shape[:2]]
        padded = cv2.copyMakeBorder(small, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT)
        with self._lock:
            net = self._nets.get(longest_side) or self._net(longest_side)
            net.setInputSize((padded.shape[1], padded.shape[0]))
            _, rows = net.detect(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
        if rows is None:
            return np.empty((0, 15), np.float32)
        rows = rows[rows[:, 2:4].min(axis=1) > 1]
        rows[:, :14] *= np.tile(_scales_xy(image_rgb, small), 7)
        return rows


def _scales_xy(image_rgb: np.ndarray, small_rgb: np.ndarray) -> tuple[float, float]:
    """The scale of each axis: the sides of the small picture were rounded to whole pixels."""
    return image_rgb.shape[1] / small_rgb.shape[1], image_rgb.shape[0] / small_rgb.shape[0]


def _merge(rows: np.ndarray, more_rows: np.ndarray) -> np.ndarray:
    """Join detections at two scales, (N, 15), and keep the one with the higher score of each face."""
    rows = np.concatenate([rows, more_rows])
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), 0.0, 0.3)
    return rows[np.asarray(kept, int)]


def _score(face: Face) -> float:
    return face.score or 0.0


def _roll(face: Face) -> float:
    return face.roll_degrees or 0.0


def _face_from_row(row: np.ndarray) -> Face:
    box_xyxy = np.concatenate([row[:2], row[:2] + row[2:4]]).astype(float)
    return Face(box_xyxy, float(row[14]), row[4:14].reshape(5, 2).astype(float))
