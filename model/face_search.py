"""First detections in a picture of any size, by searches at several scales.

YuNet finds faces of about 10 to 500 pixels. A search at 1,920 pixels takes nine times as long as one at 640, and most
pictures hold no face that only it can find. So the finest scale is searched only where the scale of half its size, or
640, shows a small face with a score from `HINT_SCORE` on:

1. The picture is searched at 640 pixels (its longest side), and at half of its size or 960 where that is larger.
2. Of what the finer of these two searches scores, the hints are small boxes that are no likely face by themselves. A grid
   of blocks of 32 pixels of the finest scale (the picture's own size, at most 1,920) marks the blocks that they touch and
   the blocks around those.
3. The rectangles around connected blocks are searched at the finest scale; all of it, if they cover most of it.

A face that lies on its side may score less than any first detection: the best of what scores less is returned too.

Whether a place is searched depends on nothing further away than the network sees: a near face hides no far one.
"""

import cv2
import numpy as np

from .face_alignment import shrink
from .face_network import NMS_OVERLAP, YuNetNetwork, suppress


COARSE_SIDE, FINE_SIDE = 640, 1920  # longest sides in pixels
CANDIDATE_SCORE = 0.4  # of a first detection
LIKELY_SCORE = 0.6  # of one that needs no finer search, and is looked at again if the close look is not enough
HINT_SCORE, HINT_WIDTH = 0.01, 32  # of a hint; pixels of the scale that it is found at
# Of a detection that only the turns of `face_orientation` may show to be a face, and among how many of the best.
FAINT_SCORE, MAX_FAINT = 0.05, 50
BLOCK = 32  # pixels of the finest scale
WHOLE_SHARE = 0.75  # of the finest scale's area: from here on it is searched as a whole


def search(network: YuNetNetwork, image_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 -> first detections (N, 15) in its pixels: x, y, width, height, five landmarks, score.

    The second array holds the faint ones, with scores from `FAINT_SCORE` to `CANDIDATE_SCORE`, best first.
    """
    fine = shrink(image_rgb, FINE_SIDE / max(image_rgb.shape[:2]))
    longest = max(fine.shape[:2])
    seen = candidates_at(network, fine, COARSE_SIDE, HINT_SCORE)
    rows = suppress(seen[seen[:, 14] >= CANDIDATE_SCORE])
    if longest > 2 * COARSE_SIDE:
        seen = candidates_at(network, fine, longest // 2, HINT_SCORE)
        rows = _merge(rows, suppress(seen[seen[:, 14] >= CANDIDATE_SCORE]))
    if longest > COARSE_SIDE:
        rows = _merge(rows, _search_regions(network, fine, find_regions(_hints(seen, rows, longest), fine.shape[:2])))
    best = suppress(seen[seen[:, 14].argsort()[::-1][:MAX_FAINT]])
    faint = best[(best[:, 14] >= FAINT_SCORE) & (best[:, 14] < CANDIDATE_SCORE)]
    for found in (rows, faint):
        found[:, :14] *= np.tile(scales_xy(image_rgb, fine), 7)
    return rows, faint


def candidates_at(network: YuNetNetwork, image_rgb: np.ndarray, longest_side: int, least_score: float) -> np.ndarray:
    """All rows from `least_score` on of a search at `longest_side` pixels, in pixels of `image_rgb`, which is never enlarged."""
    small = shrink(image_rgb, longest_side / max(image_rgb.shape[:2]))
    rows = network.candidates(small, least_score)
    rows[:, :14] *= np.tile(scales_xy(image_rgb, small), 7)
    return rows


def scales_xy(image_rgb: np.ndarray, small_rgb: np.ndarray) -> tuple[float, float]:
    """The scale of each axis: the sides of the small picture were rounded to whole pixels."""
    return image_rgb.shape[1] / small_rgb.shape[1], image_rgb.shape[0] / small_rgb.shape[0]


def find_regions(boxes_xywh: np.ndarray, shape_hw: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Boxes of hints (N, 4), at most two blocks wide -> rectangles to search, (x0, y0, x1, y1) in whole blocks.

    Args:
        shape_hw: of the picture that the boxes lie in.
    """
    marked = np.zeros([-(-side // BLOCK) for side in shape_hw], np.uint8)
    last_xy = np.array(marked.shape[::-1]) - 1
    for across in (0, 0.5, 1):
        for down in (0, 0.5, 1):
            blocks_xy = ((boxes_xywh[:, :2] + boxes_xywh[:, 2:] * (across, down)) // BLOCK).astype(int)
            columns, lines = np.clip(blocks_xy, 0, last_xy).T
            marked[lines, columns] = 1
    count, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(marked, np.ones((3, 3))), connectivity=4)
    corners = stats[1:count, :2], stats[1:count, :2] + stats[1:count, 2:4]  # the first is what is not marked
    if np.prod(corners[1] - corners[0], axis=1).sum() >= WHOLE_SHARE * marked.size:
        return [(0, 0, marked.shape[1] * BLOCK, marked.shape[0] * BLOCK)]
    regions = (np.concatenate(corners, axis=1) * BLOCK).tolist()
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in regions]


def _hints(seen: np.ndarray, rows: np.ndarray, longest: int) -> np.ndarray:
    """Boxes (N, 4) of small faces that may be there, unless they are those of likely faces among `rows`."""
    most = HINT_WIDTH * (longest / max(longest // 2, COARSE_SIDE))
    hints = seen[(seen[:, 14] < LIKELY_SCORE) & (seen[:, 2:4].max(axis=1) <= most), :4]
    for box in rows[rows[:, 14] >= LIKELY_SCORE, :4]:
        hints = hints[iou(hints, box) <= NMS_OVERLAP]
    return hints


def iou(boxes_xywh: np.ndarray, box_xywh: np.ndarray) -> np.ndarray:
    """(N, 4), (4,) -> intersection over union of each box with that one, (N,)."""
    ends, end = boxes_xywh[:, :2] + boxes_xywh[:, 2:], box_xywh[:2] + box_xywh[2:]
    inside = np.clip(np.minimum(ends, end) - np.maximum(boxes_xywh[:, :2], box_xywh[:2]), 0, None).prod(axis=1)
    return inside / np.maximum(boxes_xywh[:, 2:].prod(axis=1) + box_xywh[2:].prod() - inside, 1e-9)


def _search_regions(
    network: YuNetNetwork, image_rgb: np.ndarray, regions: list[tuple[int, int, int, int]]
) -> np.ndarray:
    found = [np.empty((0, 15), np.float32)]
    for x0, y0, x1, y1 in regions:
        rows = network.detect(image_rgb[y0:y1, x0:x1], CANDIDATE_SCORE)
        rows[:, [0, *range(4, 14, 2)]] += x0
        rows[:, [1, *range(5, 14, 2)]] += y0
        found.append(rows)
    return np.concatenate(found)


def _merge(rows: np.ndarray, more_rows: np.ndarray) -> np.ndarray:
    """Join detections at two scales, (N, 15), and keep the one with the higher score of each face."""
    rows = np.concatenate([rows, more_rows])
    kept = cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), 0.0, NMS_OVERLAP)
    return rows[np.asarray(kept, int)]
