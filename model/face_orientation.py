"""Which way up a face is: one picture of the face in twelve turns, which the detector searches at once.

YuNet lays upright landmarks on faces that lie on their side or upside down, and scores them only a little lower than the
correct ones. In the turn that brings the face upright it scores highest.

1. `draw_turns` cuts a square around the middle of the box, 1.6 times as wide as the square root of the box's area, and
   draws it turned anticlockwise by 0, 30, ... 330 degrees into cells of 48 pixels: three rows of four, from left to right
   and from top to bottom. Past the picture's edge it is black.
2. YuNet searches this picture of 192 x 144 pixels: about as much work as one look at a crop of 160 x 160.
3. `read_turns` assigns each detection to the cell that the middle of its box lies in. It drops detections further than
   0.3 cells from the middle of the cell, and those whose landmarks are turned by more than 60 degrees within the cell.
   The rest go back to the pixels of the picture, best first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .face_alignment import roll_of, square_matrix, warp_square


TURN_DEGREES = tuple(range(0, 360, 30))
CELL_SIDE, COLUMNS = 48, 4  # cells of 64 pixels in eight turns find the correct one less often, for a third more work
SHEET_WH = (CELL_SIDE * COLUMNS, CELL_SIDE * len(TURN_DEGREES) // COLUMNS)
SQUARE_TO_BOX = 1.6  # side of the square, by the square root of the box's area
MAX_OFFSET = 0.3  # of the cell's side
MAX_ROLL_IN_CELL = 60  # degrees


@dataclass(frozen=True, eq=False)
class Turn:
    """A face as one of the turns shows it: `score` 0 to 1, `landmarks_xy` (5, 2) in pixels of the picture."""

    score: float
    landmarks_xy: np.ndarray

    @property
    def roll_degrees(self) -> float:
        return roll_of(self.landmarks_xy)


def draw_turns(image_rgb: np.ndarray, box_xyxy: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(H, W, 3) uint8 and a box in its pixels -> the sheet (144, 192, 3), and of each turn the (2, 3) matrix from the
    picture to its cell."""
    (x0, y0), (x1, y1) = box_xyxy.reshape(2, 2)
    middle, side = complex(x0 + x1, y0 + y1) / 2, SQUARE_TO_BOX * np.sqrt((x1 - x0) * (y1 - y0))
    sheet = np.zeros((SHEET_WH[1], SHEET_WH[0], 3), np.uint8)
    matrices = []
    for index, degrees in enumerate(TURN_DEGREES):
        matrix = square_matrix(middle, side * np.exp(1j * np.deg2rad(degrees)), CELL_SIDE)
        row, column = divmod(index, COLUMNS)
        cell = sheet[row * CELL_SIDE : (row + 1) * CELL_SIDE, column * CELL_SIDE : (column + 1) * CELL_SIDE]
        cell[:] = warp_square(image_rgb, matrix, CELL_SIDE, cv2.BORDER_CONSTANT)
        matrices.append(matrix)
    return sheet, matrices


def read_turns(rows: np.ndarray, matrices: Sequence[np.ndarray]) -> list[Turn]:
    """YuNet's detections on a sheet, (N, 15), and its matrices -> the faces in pixels of the picture, best first."""
    turns = []
    for row in rows:
        middle_xy, landmarks_xy = row[:2] + row[2:4] / 2, row[4:14].reshape(5, 2).astype(float)
        column, line = (int(at) for at in middle_xy // CELL_SIDE)
        if not (0 <= column < COLUMNS and 0 <= line < SHEET_WH[1] // CELL_SIDE):
            continue
        corner_xy = np.array([column, line]) * CELL_SIDE
        offset = np.linalg.norm(middle_xy - corner_xy - CELL_SIDE / 2)
        if offset > MAX_OFFSET * CELL_SIDE or abs(roll_of(landmarks_xy)) > MAX_ROLL_IN_CELL:
            continue
        matrix = matrices[line * COLUMNS + column]
        in_picture_xy = (landmarks_xy - corner_xy - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        turns.append(Turn(float(row[14]), in_picture_xy))
    return sorted(turns, key=lambda turn: -turn.score)


def are_apart(first_degrees: float, second_degrees: float, least_degrees: float = 60) -> bool:
    """Whether two rolls are two orientations, and not one measured twice: more than `least_degrees` apart."""
    return abs((first_degrees - second_degrees + 180) % 360 - 180) > least_degrees
