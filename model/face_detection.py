"""Two face detectors: YuNet, which also finds landmarks, and the Haar cascade that comes with OpenCV."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from .configuration_age_gender import UTKFACE_LANDMARKS_XY
from .face_alignment import CASCADE_CROP, Face, crop_matrix, square_matrix, warp_square


YUNET_FILE = "face_detection_yunet.onnx"  # ShiqiYu/libfacedetection.train, Apache-2.0

# YuNet finds faces of about 30 to 500 pixels, so it searches large pictures at several scales (longest sides in pixels).
COARSE_SIDE, FINE_SIDES = 640, (1280, 1920)
SMALL_FACE_PIXELS = 40  # a finer scale is searched if the smallest face at this one is narrower, or none is found
CANDIDATE_SCORE = 0.4  # of a first detection; `min_score` applies to the refined one
YUNET_CROP_SIDE, CASCADE_CROP_SIDE = 160, 128  # pixels of the crop around a first detection, for the second one
MIN_INPUT_SIDE = 64
MAX_FACES = 300  # bounds the time that one picture can take


class YuNetDetector:
    """YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) through OpenCV, with five landmarks."""

    def __init__(self, weights_file: str | Path):
        self._weights_file = str(weights_file)
        # One network a scale, because OpenCV plans a network again whenever its input size changes. None for the fine
        # scales: it would hold up to 350 MB, and creating one takes a fortieth of the time that it runs.
        self._nets = {side: self._net(side) for side in (YUNET_CROP_SIDE, COARSE_SIDE // 2, COARSE_SIDE)}
        self._lock = threading.Lock()  # a network keeps its input size and buffers between calls

    def __reduce__(self) -> tuple:  # networks and locks cannot be pickled for a DataLoader's worker processes
        return YuNetDetector, (self._weights_file,)

    def detect(self, image_rgb: np.ndarray, min_score: float = 0.7) -> list[Face]:
        """(H, W, 3) uint8 -> at most `MAX_FACES` faces from left to right.

        Args:
            min_score: drop detections with a lower score, 0 to 1.
        """
        longest = max(image_rgb.shape[:2])
        rows = self._detect_at(image_rgb, COARSE_SIDE)
        if not len(rows):
            rows = self._detect_filling_face(image_rgb)
        previous_side = COARSE_SIDE
        for side in FINE_SIDES:
            scale = previous_side / longest
            if scale >= 1 or (len(rows) and rows[:, 2].min() * scale >= SMALL_FACE_PIXELS):
                break
            rows = _merge(rows, self._detect_at(image_rgb, side))
            previous_side = side
        best_first = rows[rows[:, 14].argsort()[::-1][:MAX_FACES]]
        refined = [self._refine(image_rgb, _face_from_row(row)) for row in best_first]
        faces: list[Face] = []
        for face in refined:
            if face is None or face.score is None or face.score < min_score:
                continue
            # Two first detections may be refined to the same face.
            if all(np.linalg.norm(face.center_xy - other.center_xy) > other.width / 4 for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: face.box_xyxy[0] + face.box_xyxy[2])

    def find_landmarks(self, image_rgb: np.ndarray, face: Face) -> Face:
        """Add landmarks to a face whose box another detector found; the same face if there are none inside the box."""
        found = self._detect_in_crop(image_rgb, face, margin=0.5)
        refined = found and self._refine(image_rgb, found)
        return replace(face, landmarks_xy=refined.landmarks_xy) if refined else face

    def _refine(self, image_rgb: np.ndarray, face: Face) -> Face | None:
        """Detect the face again in its own upright crop, for better landmarks and score; None if it is not found there.

        In the whole picture YuNet's landmarks are coarse on small faces and too upright on tilted ones. On faces of 40
        to 60 pixels tilted by up to 30 degrees the crop's corners are off by 16 % of its side, and by 5 % after this.
        The second score also rejects false detections.
        """
        refined = None
        for _ in range(3):
            found = self._detect_in_crop(image_rgb, refined or face, margin=0.25)
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
        return replace(face, landmarks_xy=in_picture_xy, score=float(rows[nearest, 14]))

    def _net(self, side: int) -> cv2.FaceDetectorYN:
        return cv2.FaceDetectorYN.create(self._weights_file, "", (side, side), CANDIDATE_SCORE, 0.3, 5000)

    def _detect_filling_face(self, image_rgb: np.ndarray) -> np.ndarray:
        """Shrink and pad the picture: a face that fills it is too large for the network and has no surroundings."""
        small = _shrink(image_rgb, 0.75 * COARSE_SIDE / 2 / max(image_rgb.shape[:2]))
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
        small = _shrink(image_rgb, longest_side / max(image_rgb.shape[:2]))
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


class CascadeDetector:
    """OpenCV's packaged Haar cascade (Viola and Jones, 2001): no file of its own, no landmarks, no score.

    It only detects upright faces, so it searches the picture upright and turned by 20 degrees either way.
    """

    def __init__(self, box_crop: Sequence[float] = CASCADE_CROP):
        self._box_crop = tuple(box_crop)
        folder = cv2.data.haarcascades  # type: ignore[attr-defined]  # missing in OpenCV's type stubs
        self._cascade = cv2.CascadeClassifier(f"{folder}haarcascade_frontalface_alt2.xml")
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return CascadeDetector, (self._box_crop,)

    def detect(self, image_rgb: np.ndarray, min_score: float = 0.0) -> list[Face]:
        """(H, W, 3) uint8 -> faces from left to right. The cascade gives no score for `min_score` to apply to."""
        scale = min(1.0, 800 / max(image_rgb.shape[:2]))
        grey = cv2.cvtColor(_shrink(image_rgb, scale), cv2.COLOR_RGB2GRAY)
        hits = [hit for roll_degrees in (0, -20, 20) for hit in self._detect_turned(grey, roll_degrees, 1.15, 24)]
        kept: list[_Hit] = []
        for hit in sorted(hits, key=lambda hit: -hit.windows):  # most faces are found at two or three angles
            if all(abs(hit.center - other.center) > max(hit.side, other.side) / 2 for other in kept):
                kept.append(hit)
        refined = (self._refine(grey, hit) for hit in kept)
        faces = [self._face(hit, scale) for hit in refined if hit is not None]
        return sorted(faces, key=lambda face: face.box_xyxy[0] + face.box_xyxy[2])

    def find_landmarks(self, image_rgb: np.ndarray, face: Face) -> Face:
        """The same face: the cascade finds no landmarks."""
        return face

    def _refine(self, grey: np.ndarray, hit: "_Hit") -> "_Hit | None":
        """Search around a hit at five angles and average the hits; None where too few windows agree.

        Of 110 pasted crops, faces have 46 windows or more and false detections 24 or fewer. Averaging brings the error of
        the crop's corners from 8 % of its side to 5 %.
        """
        turn = np.exp(1j * np.deg2rad(hit.roll_degrees))
        to_close = square_matrix(hit.center, 2 * hit.side * turn, CASCADE_CROP_SIDE)
        close = warp_square(grey, to_close, CASCADE_CROP_SIDE)
        middle, min_side = CASCADE_CROP_SIDE / 2, CASCADE_CROP_SIDE * 0.35
        hits = [
            again for degrees in (-20, -10, 0, 10, 20) for again in self._detect_turned(close, degrees, 1.05, min_side)
        ]
        hits = [again for again in hits if abs(again.center - complex(middle, middle)) < 0.3 * middle]
        windows = np.array([again.windows for again in hits])
        if windows.sum() < 25:
            return None
        center, side, roll_degrees = windows @ [(h.center, h.side, h.roll_degrees) for h in hits] / windows.sum()
        scale = 2 * hit.side / CASCADE_CROP_SIDE
        center = hit.center + (center - complex(middle, middle)) * scale * turn
        return _Hit(windows.sum(), center, side.real * scale, hit.roll_degrees + roll_degrees.real)

    def _detect_turned(self, grey: np.ndarray, roll_degrees: float, step: float, min_side: float) -> list["_Hit"]:
        """Faces tilted by about `roll_degrees` and at least `min_side` pixels wide, in sizes that grow by `step`."""
        height, width = grey.shape
        matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), roll_degrees, 1), dtype=np.float64)
        cos, sin = abs(matrix[0, :2])
        turned_wh = np.ceil((width * cos + height * sin, width * sin + height * cos)).astype(int)
        matrix[:, 2] += (turned_wh - (width, height)) / 2
        turned = grey
        if roll_degrees:
            turned = cv2.warpAffine(grey, matrix, turned_wh.tolist(), borderMode=cv2.BORDER_REPLICATE)
        with self._lock:
            boxes_xywh, windows = self._cascade.detectMultiScale2(
                turned, scaleFactor=step, minNeighbors=2, minSize=(int(min_side), int(min_side))
            )
        back = np.linalg.inv(matrix[:, :2])
        return [
            _Hit(int(count), complex(*back @ ((x + w / 2, y + h / 2) - matrix[:, 2])), float(w), roll_degrees)
            for (x, y, w, h), count in zip(boxes_xywh, np.ravel(windows), strict=True)
        ]

    def _face(self, hit: "_Hit", scale: float) -> Face:
        center_xy = np.array([hit.center.real, hit.center.imag])
        box_xyxy = np.concatenate([center_xy - hit.side / 2, center_xy + hit.side / 2]) / scale
        return Face(box_xyxy, box_crop=self._box_crop, roll_degrees=hit.roll_degrees)


@dataclass(frozen=True)
class _Hit:
    """A detection of the cascade: how many overlapping windows agree, centre x + iy and side in pixels, and tilt."""

    windows: int
    center: complex
    side: float
    roll_degrees: float


def _shrink(image_rgb: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1:
        return image_rgb
    height, width = (max(round(side * scale), 1) for side in image_rgb.shape[:2])
    return cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)


def _scales_xy(image_rgb: np.ndarray, small_rgb: np.ndarray) -> tuple[float, float]:
    """The scale of each axis: the sides of the small picture were rounded to whole pixels."""
    return image_rgb.shape[1] / small_rgb.shape[1], image_rgb.shape[0] / small_rgb.shape[0]


def _merge(rows: np.ndarray, more_rows: np.ndarray) -> np.ndarray:
    """Join detections at two scales, (N, 15), and keep the one with the higher score of each face."""
    rows = np.concatenate([rows, more_rows])
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), 0.0, 0.3)
    return rows[np.asarray(kept, int)]


def _face_from_row(row: np.ndarray) -> Face:
    box_xyxy = np.concatenate([row[:2], row[:2] + row[2:4]]).astype(float)
    return Face(box_xyxy, float(row[14]), row[4:14].reshape(5, 2).astype(float))
