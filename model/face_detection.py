"""Find the faces in a picture: YuNet with landmarks, or the Haar cascade that OpenCV brings along."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from .configuration_age_gender import UTKFACE_LANDMARKS_XY
from .face_alignment import CASCADE_CROP, Face, crop_matrix, square_matrix, warp_square


YUNET_FILE = "face_detection_yunet.onnx"  # ShiqiYu/libfacedetection.train, Apache-2.0

# YuNet finds faces of about 30 to 500 pixels at the scale it looks at, so large pictures are searched at several.
COARSE_SIDE, FINE_SIDES = 640, (1280, 1920)
SMALL_FACE_PIXELS = 40
CLOSE_SIDE, CANDIDATE_SCORE = 160, 0.4
CASCADE_CLOSE_SIDE = 128
MIN_INPUT_SIDE = 64
MAX_FACES = 300  # a bound on the time that one picture can take


class YuNetDetector:
    """YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) through OpenCV, with five landmarks."""

    def __init__(self, weights_file: str | Path):
        self._weights_file = str(weights_file)
        # One for each scale, as a network is planned anew whenever its input size changes. Not for the fine ones: such a
        # network would keep up to 350 MB, and is made in a fortieth of the time it takes.
        self._nets = {side: self._net(side) for side in (CLOSE_SIDE, COARSE_SIDE // 2, COARSE_SIDE)}
        self._lock = threading.Lock()  # a network keeps its input size and buffers between calls

    def __reduce__(self):  # neither networks nor locks can be copied into the processes of a DataLoader
        return YuNetDetector, (self._weights_file,)

    def detect(self, image_rgb: np.ndarray, min_score: float = 0.7) -> list[Face]:
        """(H, W, 3) uint8 -> at most `MAX_FACES` faces from left to right; an empty list where there are none."""
        longest = max(image_rgb.shape[:2])
        rows = self._detect_at(image_rgb, COARSE_SIDE)
        if not len(rows):
            rows = self._detect_filling(image_rgb)
        previous_side = COARSE_SIDE
        for side in FINE_SIDES:
            scale = previous_side / longest
            if scale >= 1 or (len(rows) and rows[:, 2].min() * scale >= SMALL_FACE_PIXELS):
                break
            rows = _merge(rows, self._detect_at(image_rgb, side))
            previous_side = side
        surest_first = rows[rows[:, 14].argsort()[::-1][:MAX_FACES]]
        faces: list[Face] = []
        for face in (self._with_close_landmarks(image_rgb, _face_from_row(row)) for row in surest_first):
            # Looking closely, two detections may come to rest on one face.
            if face is not None and face.score >= min_score and all(_distance(face, f) > f.width / 4 for f in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: face.box_xyxy[0] + face.box_xyxy[2])

    def find_landmarks(self, image_rgb: np.ndarray, face: Face) -> Face:
        """Add landmarks to a face whose box came from elsewhere; the same face where none are found inside the box."""
        found = self._look_closely(image_rgb, face, margin=0.5)
        found = found and self._with_close_landmarks(image_rgb, found)
        return replace(face, landmarks_xy=found.landmarks_xy) if found else face

    def _with_close_landmarks(self, image_rgb: np.ndarray, face: Face) -> Face | None:
        """Look again at the face turned upright at one size: landmarks and score from there; None if no face is there.

        In the whole picture landmarks are coarse on small faces and drawn towards upright on tilted ones: on faces of
        40 to 60 pixels tilted up to 30 degrees the crop's corners are off by 16 % of its side, and by 5 % after this.
        The second score tells faces from what only resembled one at a distance.
        """
        closest = None
        for _ in range(3):
            found = self._look_closely(image_rgb, closest or face, margin=0.25)
            if found is None:
                break
            # How far the crop moves: the ratio of the two similarities, as one complex number
            before, after = (complex(*crop_matrix(f, UTKFACE_LANDMARKS_XY, 1)[:, 0]) for f in (closest or face, found))
            closest, change = found, after / before
            if abs(np.angle(change, deg=True)) < 8 and 0.9 < abs(change) < 1.1:
                break
        return closest

    def _look_closely(self, image_rgb: np.ndarray, face: Face, margin: float) -> Face | None:
        """Detect in the face's crop with `margin` of its side around, 160 pixels wide; None if it is not there."""
        side = CLOSE_SIDE / (1 + 2 * margin)
        matrix = crop_matrix(face, UTKFACE_LANDMARKS_XY, side)
        matrix[:, 2] += margin * side
        rows = self._detect_at(warp_square(image_rgb, matrix, CLOSE_SIDE, cv2.BORDER_CONSTANT), CLOSE_SIDE)
        landmarks_xy = rows[:, 4:14].reshape(-1, 5, 2)
        # Landmarks and not boxes: in profile the middle of the box lies far from the middle of the landmarks.
        expected_xy = (np.mean(UTKFACE_LANDMARKS_XY, axis=0) + margin) * side
        distances = np.linalg.norm(landmarks_xy.mean(axis=1) - expected_xy, axis=1)
        if not len(rows) or distances.min() > side / 4:
            return None
        nearest = distances.argmin()
        in_picture_xy = (landmarks_xy[nearest] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return replace(face, landmarks_xy=in_picture_xy, score=float(rows[nearest, 14]))

    def _net(self, side: int) -> cv2.FaceDetectorYN:
        return cv2.FaceDetectorYN.create(self._weights_file, "", (side, side), CANDIDATE_SCORE, 0.3, 5000)

    def _detect_filling(self, image_rgb: np.ndarray) -> np.ndarray:
        """A face that fills the picture: too large for the network at the usual scale, and lacking a surround to stand in."""
        small = _shrink(image_rgb, 0.75 * COARSE_SIDE / 2 / max(image_rgb.shape[:2]))
        margin = max(small.shape[:2]) // 6
        # Black, not the edge repeated: of faces cut 20 % inside UTKFace's chip 98 % were found against 57 %.
        rows = self._detect_at(cv2.copyMakeBorder(small, *[margin] * 4, cv2.BORDER_CONSTANT), COARSE_SIDE // 2)
        rows[:, [0, 1, *range(4, 14)]] -= margin
        rows[:, :14] *= np.tile(_scales_xy(image_rgb, small), 7)
        return rows

    def _detect_at(self, image_rgb: np.ndarray, longest_side: int) -> np.ndarray:
        """(N, 15) in pixels of `image_rgb`: x, y, width, height, five landmarks, score; never enlarges the picture."""
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
    """OpenCV's packaged Haar cascade (Viola and Jones, 2001): nothing to download, no landmarks, no comparable score.

    It only knows upright faces, so the picture is searched upright and turned 20 degrees either way.
    """

    def __init__(self, box_crop: Sequence[float] = CASCADE_CROP):
        self._box_crop = tuple(box_crop)
        self._cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
        self._lock = threading.Lock()

    def __reduce__(self):
        return CascadeDetector, (self._box_crop,)

    def detect(self, image_rgb: np.ndarray, min_score: float = 0.0) -> list[Face]:
        """(H, W, 3) uint8 -> faces from left to right. `min_score` is not used."""
        scale = min(1.0, 800 / max(image_rgb.shape[:2]))
        grey = cv2.cvtColor(_shrink(image_rgb, scale), cv2.COLOR_RGB2GRAY)
        hits = [hit for roll_degrees in (0, -20, 20) for hit in self._detect_turned(grey, roll_degrees, 1.15, 24)]
        kept: list[_Hit] = []
        for hit in sorted(hits, key=lambda hit: -hit.windows):  # a face is mostly found at two or three angles
            if all(abs(hit.center - other.center) > max(hit.side, other.side) / 2 for other in kept):
                kept.append(hit)
        seen_closely = (self._look_closely(grey, hit) for hit in kept)
        faces = [self._face(hit, scale) for hit in seen_closely if hit is not None]
        return sorted(faces, key=lambda face: face.box_xyxy[0] + face.box_xyxy[2])

    def _look_closely(self, grey: np.ndarray, hit: "_Hit") -> "_Hit | None":
        """Search around a hit at five angles and average what is found; None where too few windows agree.

        Faces have 46 windows or more, what was taken for one 24 at most (110 pasted crops); and averaged, the crop's
        corners are off by 5 % of its side instead of 8 %.
        """
        turn = np.exp(1j * np.deg2rad(hit.roll_degrees))
        to_close = square_matrix(hit.center, 2 * hit.side * turn, CASCADE_CLOSE_SIDE)
        close = warp_square(grey, to_close, CASCADE_CLOSE_SIDE)
        middle, least = CASCADE_CLOSE_SIDE / 2, CASCADE_CLOSE_SIDE * 0.35
        hits = [
            again for degrees in (-20, -10, 0, 10, 20) for again in self._detect_turned(close, degrees, 1.05, least)
        ]
        hits = [again for again in hits if abs(again.center - complex(middle, middle)) < 0.3 * middle]
        windows = np.array([again.windows for again in hits])
        if windows.sum() < 25:
            return None
        center, side, roll_degrees = windows @ [(h.center, h.side, h.roll_degrees) for h in hits] / windows.sum()
        scale = 2 * hit.side / CASCADE_CLOSE_SIDE
        center = hit.center + (center - complex(middle, middle)) * scale * turn
        return _Hit(windows.sum(), center, side.real * scale, hit.roll_degrees + roll_degrees.real)

    def _detect_turned(self, grey: np.ndarray, roll_degrees: float, step: float, least: float) -> list["_Hit"]:
        """Faces tilted by about `roll_degrees` and at least `least` pixels wide, in sizes that grow by `step`."""
        height, width = grey.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), roll_degrees, 1)
        cos, sin = abs(matrix[0, :2])
        turned_wh = np.ceil((width * cos + height * sin, width * sin + height * cos)).astype(int)
        matrix[:, 2] += (turned_wh - (width, height)) / 2
        turned = grey if roll_degrees == 0 else cv2.warpAffine(grey, matrix, turned_wh, borderMode=cv2.BORDER_REPLICATE)
        with self._lock:
            boxes_xywh, windows = self._cascade.detectMultiScale2(
                turned, scaleFactor=step, minNeighbors=2, minSize=(int(least), int(least))
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
    """What the cascade found: how many overlapping windows agree, centre x + iy and side in pixels, and tilt."""

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
    """Each side of the small one was rounded to whole pixels, so the two scales may differ a little."""
    return image_rgb.shape[1] / small_rgb.shape[1], image_rgb.shape[0] / small_rgb.shape[0]


def _merge(rows: np.ndarray, more_rows: np.ndarray) -> np.ndarray:
    """Detections at two scales as one (N, 15) list, each face once with its surer detection."""
    rows = np.concatenate([rows, more_rows])
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), 0.0, 0.3)
    return rows[np.asarray(kept, int)]


def _distance(first: Face, second: Face) -> float:
    """Pixels between the middles of the landmarks."""
    return float(np.linalg.norm(first.landmarks_xy.mean(axis=0) - second.landmarks_xy.mean(axis=0)))


def _face_from_row(row: np.ndarray) -> Face:
    box_xyxy = np.concatenate([row[:2], row[:2] + row[2:4]]).astype(float)
    return Face(box_xyxy, float(row[14]), row[4:14].reshape(5, 2).astype(float))
