"""Which way up a face is: one picture of the face in twelve turns, which the detector searches at once.

YuNet lays upright landmarks on faces that lie on their side or upside down, and scores them only a little lower than the
correct ones. In the turn that brings the face upright it scores highest.

1. `draw_turns` cuts a square around the middle of the box, 1.6 times as wide as the square root of the box's area, and
   draws it turned anticlockwise by 0, 30, ... 330 degrees into cells of 48 pixels: three rows of four, from left to right
   and from top to bottom. Past the picture's edge it is black. All turns are drawn from one small picture of the square
   and its surroundings, at twice the scale of the cells.
2. YuNet searches this picture of 192 x 144 pixels: about as much work as one look at a crop of 160 x 160.
3. `read_turns` assigns each detection to the cell that the middle of its box lies in. It drops detections further than
   0.3 cells from the middle of the cell, and those whose landmarks are turned by more than 60 degrees within the cell.
   Of the rest, the best goes back to the pixels of the picture, and the best of another orientation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from .face_alignment import HalvedPicture, roll_of, square_matrix


TURN_DEGREES = tuple(range(0, 360, 30))
TURNS = tuple(np.exp(1j * np.deg2rad(degrees)) for degrees in TURN_DEGREES)
CELL_SIDE, COLUMNS = 48, 4  # cells of 64 pixels in eight turns find the correct one less often, for a third more work
SHEET_WH = (CELL_SIDE * COLUMNS, CELL_SIDE * len(TURN_DEGREES) // COLUMNS)
SQUARE_TO_BOX = 1.6  # side of the square, by the square root of the box's area
AROUND_SIDE, AROUND_TO_SQUARE = 136, 1.417  # pixels; the square fits in at any turn, at 96 pixels
MAX_OFFSET = 0.3  # of the cell's side
MAX_ROLL_IN_CELL = 60  # degrees


@dataclass(frozen=True, eq=False)
class Turn:
    """A face as one of the turns shows it: `score` 0 to 1, `landmarks_xy` (5, 2) and `roll_degrees` in the picture."""

    score: float
    landmarks_xy: np.ndarray
    roll_degrees: float


def draw_turns(picture: HalvedPicture, box_xyxy: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture and a box in its pixels -> the sheet (144, 192, 3), and of each turn the (2, 3) matrix from the picture to
    its cell."""
    (x0, y0), (x1, y1) = box_xyxy.reshape(2, 2)
    middle, side = complex(x0 + x1, y0 + y1) / 2, SQUARE_TO_BOX * np.sqrt((x1 - x0) * (y1 - y0))
    around_rgb = picture.warp_square(square_matrix(middle, side * AROUND_TO_SQUARE, AROUND_SIDE), AROUND_SIDE)
    twice = cv2.remap(around_rgb, *_places_around(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    sheet = cv2.resize(twice, SHEET_WH, interpolation=cv2.INTER_AREA)
    return sheet, [square_matrix(middle, side * turn, CELL_SIDE) for turn in TURNS]


@cache
def _places_around() -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel of a sheet at twice its size, where it lies in the picture of the surroundings: maps of cv2.remap."""
    places = np.zeros((2 * SHEET_WH[1], 2 * SHEET_WH[0], 2), np.float32)
    cell = 2 * CELL_SIDE
    pixels_xy = np.stack(np.meshgrid(np.arange(cell), np.arange(cell)), axis=2) + 0.5
    for index, turn in enumerate(TURNS):
        matrix = square_matrix(AROUND_SIDE * (0.5 + 0.5j), AROUND_SIDE / AROUND_TO_SQUARE * turn, cell)
        top, left = (at * cell for at in divmod(index, COLUMNS))
        # OpenCV puts a pixel's coordinates at its centre.
        in_picture_xy = (pixels_xy - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T - 0.5
        places[top : top + cell, left : left + cell] = in_picture_xy
    return cv2.convertMaps(places[..., 0], places[..., 1], cv2.CV_16SC2)


def read_turns(rows: np.ndarray, matrices: Sequence[np.ndarray]) -> list[Turn]:
    """YuNet's detections on a sheet, (N, 15), and its matrices -> the likeliest turn, and the likeliest of another
    orientation; fewer where there is none."""
    turns: list[Turn] = []
    for row in rows[rows[:, 14].argsort()[::-1]]:
        middle_xy = row[:2] + row[2:4] / 2
        column, line = (int(at) for at in middle_xy // CELL_SIDE)
        if not (0 <= column < COLUMNS and 0 <= line < SHEET_WH[1] // CELL_SIDE):
            continue
        corner_xy = np.array([column, line]) * CELL_SIDE
        if np.hypot(*(middle_xy - corner_xy - CELL_SIDE / 2)) > MAX_OFFSET * CELL_SIDE:
            continue
        landmarks_xy, index = row[4:14].reshape(5, 2).astype(float), line * COLUMNS + column
        roll_in_cell = roll_of(landmarks_xy)
        roll_degrees = (roll_in_cell + TURN_DEGREES[index] + 180) % 360 - 180
        if abs(roll_in_cell) > MAX_ROLL_IN_CELL or (turns and not are_apart(roll_degrees, turns[0].roll_degrees)):
            continue
        matrix = matrices[index]
        in_picture_xy = (landmarks_xy - corner_xy - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        turns.append(Turn(float(row[14]), in_picture_xy, roll_degrees))
        if len(turns) == 2:
            break
    return turns


def are_apart(first_degrees: float, second_degrees: float, least_degrees: float = 60) -> bool:
    """Whether two rolls are two orientations, and not one measured twice: more than `least_degrees` apart."""
    return abs((first_degrees - second_degrees + 180) % 360 - 180) > least_degrees
