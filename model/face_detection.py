"""The face detector YuNet, which also finds landmarks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from .configuration_age_gender import UTKFACE_LANDMARKS_XY
from .face_alignment import Face, HalvedPicture, crop_matrix, roll_of, shrink
from .face_network import MIN_INPUT_SIDE, YuNetNetwork, suppress
from .face_orientation import Turn, are_apart, draw_turns, read_turns
from .face_search import CANDIDATE_SCORE, COARSE_SIDE, LIKELY_SCORE, candidates_at, scales_xy, search
from .model_files import ModelFileError, one_line


YUNET_FILE = "face_detection_yunet.onnx"  # ShiqiYu/libfacedetection.train, Apache-2.0

TURN_SCORE = 0.2  # of a detection among the turns of one face
# A first detection and then a close look that score this much are an upright face: so do 350 of 400 upright crops of UTKFace,
# 100 and 160 pixels wide, and 2 of 2,000 turned by 40 to 60 degrees, whose first landmarks are far too upright.
SURE_SCORE, UPRIGHT_SCORE = 0.915, 0.905
TURNED_SCORE = 0.88  # a face that scores less in its proposed turns is looked at as it was found, too
SAME_ROLL_DEGREES = 10  # a close look this near to a proposed turn needs no second one at that turn
CLEAR_LEAD = 0.03  # an orientation is certain if its score is higher than any other's by this
# Of those turned by 90 degrees, 52 score less than `CANDIDATE_SCORE` at first, and most of them as upright ones in their turns.
FAINT_TURN_SCORE, FAINT_FACE_SCORE, FAINT_FAILURES = 0.8, 0.85, 2
CLOSE_MARGIN, OTHER_MARGINS = 0.25, (0.1, 0.5, 0.75)  # of a close look, by the side of the aligned crop
# Where nothing is found so far, a close look at another size or roll shows a face if it scores this. It finds 5 of 24 missed
# crops of FairFace's training part, and no more animals than the searches before it.
LAST_MARGINS, LAST_SCORE, LAST_CANDIDATES = (0.1, 0.5, 0.75, 1.0), 0.78, 4
YUNET_CROP_SIDE = 160  # pixels of the crop around a first detection, for the second one
MIN_SCORE = 0.7  # of a face, unless the caller wants another
MAX_FACES = 300  # bounds the time that one picture can take


class YuNetDetector:
    """YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023), with five landmarks."""

    def __init__(self, weights_file: str | Path, engine: str | None = None):
        """
        Args:
            engine: "onnxruntime" or "opencv"; by default the first of them that is installed.
        """
        self._weights_file, self._engine = str(weights_file), engine
        self._network = YuNetNetwork(weights_file, engine)

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

    def __reduce__(self) -> tuple:  # a network cannot be pickled for a DataLoader's worker processes
        return YuNetDetector, (self._weights_file, self._engine)

    def detect(self, image_rgb: np.ndarray, min_score: float = MIN_SCORE) -> list[Face]:
        """(H, W, 3) uint8 -> at most `MAX_FACES` faces from left to right.

        Args:
            min_score: drop detections with a lower score, 0 to 1.
        """
        (rows, faint), picture = search(self._network, image_rgb), HalvedPicture(image_rgb)
        faces = self._look_closely(picture, rows, min_score) or self._look_at_faint(picture, faint, min_score)
        found = [rows]
        for search_again in (self._detect_filling_face, self._detect_in_turned_picture):
            if not faces:
                found.append(search_again(image_rgb))
                # Where the close look saw no face in what was found at first, a further find has to be likelier.
                is_enough = found[-1][:, 14] >= (LIKELY_SCORE if len(rows) else CANDIDATE_SCORE)
                faces = self._look_closely(picture, found[-1][is_enough], min_score)
        if not faces:
            faces = self._look_once_more(picture, np.concatenate(found[:2]), max(min_score, LAST_SCORE))
        return sorted(faces, key=lambda face: face.box_xyxy[0] + face.box_xyxy[2])

    def find_landmarks(self, image_rgb: np.ndarray, faces: Sequence[Face]) -> list[Face]:
        """Add landmarks and roll to faces whose boxes another detector found; one that is not seen in its box stays as it is."""
        picture = HalvedPicture(image_rgb)
        return [self._find_in_box(picture, face) for face in faces]

    def _find_in_box(self, picture: HalvedPicture, face: Face) -> Face:
        nearby = self._detect_in_crop(picture, face, margin=0.5)  # the box may be larger or smaller than the detector's
        found = self._find_upright(picture, nearby or replace(face, score=None))
        return replace(found, score=face.score) if found else face

    def _look_closely(self, picture: HalvedPicture, rows: np.ndarray, min_score: float) -> list[Face]:
        """First detections, (N, 15) -> those that are faces of at least `min_score` on a close look, each once."""
        faces: list[Face] = []
        for row in rows[rows[:, 14].argsort()[::-1][:MAX_FACES]]:
            candidate = _face_from_row(row)
            face = self._find_upright(picture, candidate)
            if row[14] >= LIKELY_SCORE and (face is None or _score(face) < min_score):
                # Blurred faces, profiles and faces that fill the picture score higher when seen larger or smaller.
                looks = [self._detect_in_crop(picture, face or candidate, margin) for margin in OTHER_MARGINS]
                face = max((look for look in (*looks, face) if look), key=_score, default=None)
            if face and _score(face) >= min_score and _is_new(face, faces):
                faces.append(face)
        return faces

    def _look_at_faint(self, picture: HalvedPicture, rows: np.ndarray, min_score: float) -> list[Face]:
        """Faint detections, (N, 15), best first -> those that are faces in one of their turns, until several are none."""
        faces: list[Face] = []
        failures = 0
        for row in rows:
            candidate = _face_from_row(row)
            turns = self._detect_turns(picture, candidate)
            looks = (
                self._look_at_turns(picture, candidate, turns) if turns and turns[0].score >= FAINT_TURN_SCORE else []
            )
            face = _choose(looks, turns)
            if face and _score(face) >= max(min_score, FAINT_FACE_SCORE):
                faces += [self._look_again(picture, face)] if _is_new(face, faces) else []
                continue
            failures += 1
            if failures == FAINT_FAILURES:
                break
        return faces

    def _look_once_more(self, picture: HalvedPicture, rows: np.ndarray, min_score: float) -> list[Face]:
        """The likeliest face of at least `min_score` around the best first detections, (N, 15), in crops of more sizes."""
        looks: list[Face | None] = []
        for row in rows[rows[:, 14].argsort()[::-1][:LAST_CANDIDATES]]:
            candidate = _face_from_row(row)
            for begin in (candidate, self._find_upright(picture, candidate)):
                if begin:
                    looks += [self._detect_in_crop(picture, begin, margin) for margin in LAST_MARGINS]
        best = max((look for look in looks if look), key=_score, default=None)
        return [best] if best and _score(best) >= min_score else []

    def _find_upright(self, picture: HalvedPicture, candidate: Face) -> Face | None:
        """The face in its most likely orientation, and whether that is certain.

        A close look at a sure first detection ends the search if it is sure itself. Else the turns of `face_orientation`
        propose an orientation, and a second one where it leads by less than `CLEAR_LEAD`, from which close looks begin.

        Args:
            candidate: what was found at first, or the box that was given.
        """
        is_sure = _score(candidate) >= SURE_SCORE
        tried = self._look_and_settle(picture, candidate) if is_sure else []
        if tried and _score(tried[0]) >= UPRIGHT_SCORE:
            return self._look_again(picture, tried[0])
        turns = self._detect_turns(picture, candidate)
        tried += self._look_at_turns(picture, candidate, turns, tried)
        if not is_sure and max(map(_score, tried), default=0.0) < TURNED_SCORE:
            tried += self._look_and_settle(picture, candidate)
        chosen = _choose(tried, turns)
        return chosen and self._look_again(picture, chosen)

    def _look_at_turns(
        self, picture: HalvedPicture, candidate: Face, turns: Sequence[Turn], tried: Sequence[Face] = ()
    ) -> list[Face]:
        """Close looks at the proposed turns, but for those that a face in `tried` is near."""
        faces: list[Face] = []
        for turn in turns[:1] if _is_clear(turns) else turns:
            if all(are_apart(turn.roll_degrees, _roll(face), SAME_ROLL_DEGREES) for face in (*tried, *faces)):
                faces += self._look_and_settle(picture, replace(candidate, landmarks_xy=turn.landmarks_xy))
        return faces

    def _detect_turns(self, picture: HalvedPicture, face: Face) -> list[Turn]:
        sheet, matrices = draw_turns(picture, face.box_xyxy)
        return read_turns(self._network.detect(sheet, TURN_SCORE), matrices)

    def _look_and_settle(self, picture: HalvedPicture, face: Face) -> list[Face]:
        """Detect the face again in its own upright crop, for better landmarks and score; none if it is not found there.

        In the whole picture YuNet's landmarks are coarse on small faces and too upright on tilted ones. On faces of 40
        to 60 pixels tilted by up to 30 degrees the crop's corners are off by 16 % of its side, and by 5 % once the looks,
        three at most, have found about what the one before found. The second score also rejects false detections.
        """
        looks: list[Face] = []
        for _ in range(3):
            found = self._detect_in_crop(picture, face, CLOSE_MARGIN)
            if found is None:
                break
            looks.append(found)
            # The ratio of the two similarities, as one complex number, is how far the crop turned and scaled.
            before, after = (complex(*crop_matrix(f, UTKFACE_LANDMARKS_XY, 1)[:, 0]) for f in (face, found))
            change = after / before
            if abs(np.angle(change, deg=True)) < 8 and 0.9 < abs(change) < 1.1:
                break
            face = found
        return looks[-1:]

    def _look_again(self, picture: HalvedPicture, face: Face) -> Face:
        """The face with the mean landmarks of two close looks: those of one vary by a pixel, and its age by a year."""
        again = self._detect_in_crop(picture, face, CLOSE_MARGIN)
        if again is None:
            return face
        assert face.landmarks_xy is not None
        assert again.landmarks_xy is not None
        landmarks_xy = (face.landmarks_xy + again.landmarks_xy) / 2
        return replace(face, landmarks_xy=landmarks_xy, roll_degrees=roll_of(landmarks_xy))

    def _detect_in_crop(self, picture: HalvedPicture, face: Face, margin: float) -> Face | None:
        """Detect in the face's crop plus `margin` of its side all around; None if the face is not found at its middle."""
        side = YUNET_CROP_SIDE / (1 + 2 * margin)
        matrix = crop_matrix(face, UTKFACE_LANDMARKS_XY, side)
        matrix[:, 2] += margin * side
        rows = self._detect_at(picture.warp_square(matrix, YUNET_CROP_SIDE), YUNET_CROP_SIDE)
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

    def _detect_in_turned_picture(self, image_rgb: np.ndarray) -> np.ndarray:
        """Turn the picture clockwise by 90 degrees: of faces that lie on their side a quarter is not found at first."""
        rows = self._detect_at(cv2.rotate(image_rgb, cv2.ROTATE_90_CLOCKWISE), COARSE_SIDE)
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
        rows[:, :14] *= np.tile(scales_xy(image_rgb, small), 7)
        return rows

    def _detect_at(self, image_rgb: np.ndarray, longest_side: int) -> np.ndarray:
        """First detections (N, 15) of one search, in pixels of `image_rgb`."""
        return suppress(candidates_at(self._network, image_rgb, longest_side, CANDIDATE_SCORE))


def _choose(tried: Sequence[Face], turns: Sequence[Turn]) -> Face | None:
    """The face with the highest score. Its roll is certain if the turns clearly propose it, or if its score leads by
    `CLEAR_LEAD`."""
    if not tried:
        return None
    chosen = max(tried, key=_score)
    others = [_score(face) for face in tried if are_apart(_roll(face), _roll(chosen))]
    is_proposed = _is_clear(turns) and not (turns and are_apart(_roll(chosen), turns[0].roll_degrees))
    return replace(chosen, is_roll_certain=is_proposed or _score(chosen) - max(others, default=0.0) >= CLEAR_LEAD)


def _is_clear(turns: Sequence[Turn]) -> bool:
    return len(turns) < 2 or turns[0].score - turns[1].score >= CLEAR_LEAD


def _is_new(face: Face, faces: Sequence[Face]) -> bool:
    """Two first detections may be refined to the same face."""
    return all(np.linalg.norm(face.center_xy - other.center_xy) > other.width / 4 for other in faces)


def _score(face: Face) -> float:
    return face.score or 0.0


def _roll(face: Face) -> float:
    return face.roll_degrees or 0.0


def _face_from_row(row: np.ndarray) -> Face:
    box_xyxy = np.concatenate([row[:2], row[:2] + row[2:4]]).astype(float)
    return Face(box_xyxy, float(row[14]), row[4:14].reshape(5, 2).astype(float))
