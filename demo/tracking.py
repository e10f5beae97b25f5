"""Face tracking for the live webcam: a face keeps its number, and its prediction is averaged over frames."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from model.face_search import iou
from model.prepared_faces import FaceLogits


MIN_IOU = 0.3  # the boxes of one face in two frames a third of a second apart overlap by at least this much
NEWEST_WEIGHT = 0.35  # in the moving averages: after six frames, or two seconds, they have followed a change by 90 %
MAX_MISSED_FRAMES = 3  # a face that is missing for longer starts anew


@dataclass
class Track:
    """One face over time: its number, and the moving averages of its box (4,) and logits."""

    number: int
    box_xyxy: np.ndarray
    age_logits: torch.Tensor
    gender_logits: torch.Tensor
    missed_frames: int = 0
    is_roll_certain: bool = True

    def average(self, newest: "Track") -> None:
        """A frame in which it is not certain which way up the face is adds nothing to the logits."""
        self.box_xyxy = (1 - NEWEST_WEIGHT) * self.box_xyxy + NEWEST_WEIGHT * newest.box_xyxy
        self.missed_frames = 0
        if not newest.is_roll_certain:
            return
        weight = NEWEST_WEIGHT if self.is_roll_certain else 1.0
        self.age_logits = torch.lerp(self.age_logits, newest.age_logits, weight)
        self.gender_logits = torch.lerp(self.gender_logits, newest.gender_logits, weight)
        self.is_roll_certain = True


@dataclass
class Tracks:
    """The faces before one visitor's webcam, as `model` sees them. Gradio keeps them for the visitor's session only."""

    model: str = ""
    tracks: list[Track] = field(default_factory=list)

    def smooth(self, logits: FaceLogits) -> tuple[list[int], FaceLogits]:
        """Number the faces of a frame, and average their boxes and logits with those of earlier frames.

        Returns:
            The number of each of the N faces, and `logits` with the averages, for the pipeline's `postprocess`.
        """
        faces = logits.prepared.faces
        newest = [
            Track(0, face.box_xyxy, age, gender, is_roll_certain=face.is_roll_certain)
            for face, age, gender in zip(faces, logits.age_logits, logits.gender_logits, strict=True)
        ]
        track_of = self._match(newest)
        tracks = [track_of[index] for index in range(len(newest))]
        if not tracks:
            return [], logits
        smooth_faces = [
            replace(face, box_xyxy=track.box_xyxy, is_roll_certain=track.is_roll_certain)
            for face, track in zip(faces, tracks, strict=True)
        ]
        return [track.number for track in tracks], FaceLogits(
            replace(logits.prepared, faces=smooth_faces),
            age_logits=torch.stack([track.age_logits for track in tracks]),
            gender_logits=torch.stack([track.gender_logits for track in tracks]),
        )

    def _match(self, newest: list[Track]) -> dict[int, Track]:
        """Index in `newest` -> its track: greedily by largest overlap; a new face gets the lowest free number."""
        known_xywh = _boxes_xywh(self.tracks)
        overlaps = np.array([iou(known_xywh, box) for box in _boxes_xywh(newest)])
        for track in self.tracks:
            track.missed_frames += 1
        matched: dict[int, Track] = {}
        while overlaps.size and overlaps.max() >= MIN_IOU:
            index, known = map(int, np.unravel_index(overlaps.argmax(), overlaps.shape))
            matched[index] = self.tracks[known]
            self.tracks[known].average(newest[index])
            overlaps[index, :], overlaps[:, known] = -1, -1
        self.tracks = [track for track in self.tracks if track.missed_frames <= MAX_MISSED_FRAMES]
        for index, track in enumerate(newest):
            if index not in matched:
                taken = {track.number for track in self.tracks}
                track.number = next(number for number in range(1, len(taken) + 2) if number not in taken)
                matched[index] = track
                self.tracks.append(track)
        return matched


def _boxes_xywh(tracks: list[Track]) -> np.ndarray:
    """(N, 4)"""
    boxes = np.array([track.box_xyxy for track in tracks], dtype=float).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
