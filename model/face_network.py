"""YuNet's network: from a picture at one scale to rows of detections.

onnxruntime runs it where that package is installed, in less than half the time of OpenCV, which runs it elsewhere. Both
compute the same file in fp32: their outputs differ by less than 0.00001, and rounding makes the same detections of them.
"""

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np


STRIDES = (8, 16, 32)  # pixels between the cells of each output
NAMES = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)
NMS_OVERLAP, MAX_CANDIDATES = 0.3, 5000
STEPS_PER_PIXEL = (
    16  # to which detections are rounded: else engines' last digits move the crops and change ages by 0.1 years
)
MIN_INPUT_SIDE = 64  # in a strip of up to 32 pixels OpenCV 4.14 computes faces of infinite size, with score 1

Run = Callable[[np.ndarray], list[np.ndarray]]  # (1, 3, H, W) float32 -> the outputs in `NAMES`


class YuNetNetwork:
    """The network in a file. Several threads may use it; onnxruntime computes on the one that calls."""

    def __init__(self, weights_file: str | Path, engine: str | None = None):
        """
        Args:
            engine: "onnxruntime" or "opencv"; by default the first of them that is installed.
        """
        self._run = _open_network(str(weights_file), engine)

    def detect(self, image_rgb: np.ndarray, least_score: float) -> np.ndarray:
        """(H, W, 3) uint8 -> (N, 15), best first: x, y, width, height, five landmarks, score; in pixels."""
        return suppress(self.candidates(image_rgb, least_score))

    def candidates(self, image_rgb: np.ndarray, least_score: float) -> np.ndarray:
        """The rows of `detect` with each face several times, in no order."""
        missing = [max(side + -side % max(STRIDES), MIN_INPUT_SIDE) - side for side in image_rgb.shape[:2]]
        if any(missing):
            image_rgb = cv2.copyMakeBorder(image_rgb, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT)
        outputs = self._run(_blue_green_red(image_rgb))
        classes, objects, boxes, points = (np.concatenate(outputs[at : at + 3], axis=1)[0] for at in (0, 3, 6, 9))
        scores = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
        cells_xy, strides = _cells(*image_rgb.shape[:2])
        found = np.flatnonzero(scores >= least_score)
        size_wh = np.exp(boxes[found, 2:]) * strides[found]
        is_face = size_wh.min(axis=1) > 1
        found, size_wh = found[is_face], size_wh[is_face]
        corner_xy, stride = cells_xy[found], strides[found]
        box_xy = corner_xy + boxes[found, :2] * stride - size_wh / 2
        landmarks_xy = corner_xy.repeat(5, axis=0).reshape(-1, 10) + points[found] * stride
        geometry = np.concatenate([box_xy, size_wh, landmarks_xy], axis=1)
        return np.concatenate([np.round(geometry * STEPS_PER_PIXEL) / STEPS_PER_PIXEL, scores[found, None]], axis=1)


def _blue_green_red(image_rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32. For 640 x 480 pixels cv2.dnn.blobFromImage takes twelve times as long."""
    pixels = np.empty((1, 3, *image_rgb.shape[:2]), np.float32)
    for plane, channel in zip(pixels[0], reversed(cv2.split(image_rgb)), strict=True):
        plane[:] = channel
    return pixels


@lru_cache(maxsize=16)
def _cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each cell of the outputs its corner, (N, 2), and its stride, (N, 1), in pixels of a picture; both float32."""
    corners, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride].reshape(2, -1) * stride
        corners.append(np.stack([x, y], axis=1))
        strides.append(np.full((len(x), 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def suppress(rows: np.ndarray) -> np.ndarray:
    """(N, 15) -> of each face the row with the highest score, best first."""
    kept = cv2.dnn.NMSBoxes(
        np.trunc(rows[:, :4]).tolist(), rows[:, 14].tolist(), 0.0, NMS_OVERLAP, top_k=MAX_CANDIDATES
    )
    return rows[np.asarray(kept, int)]


def _open_network(weights_file: str, engine: str | None) -> Run:
    if engine != "opencv":
        try:
            import onnxruntime
        except ImportError:
            if engine:
                raise
        else:
            return _open_in_onnxruntime(onnxruntime, weights_file)
    return _open_in_opencv(weights_file)


def _open_in_onnxruntime(onnxruntime: ModuleType, weights_file: str) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # then it has no threads that a forked process would lack
    options.enable_mem_pattern = False  # pictures differ in size
    session = onnxruntime.InferenceSession(weights_file, options, providers=["CPUExecutionProvider"])
    [network_input] = session.get_inputs()
    return lambda pixels: session.run(NAMES, {network_input.name: pixels})


def _open_in_opencv(weights_file: str) -> Run:
    lock = threading.Lock()  # a network keeps its input size and buffers between calls
    networks: dict[tuple[int, ...], cv2.dnn.Net] = {}

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        with lock:
            # The crops of close looks and the sheet of turns stay, whatever large pictures come between them.
            network = networks.pop(pixels.shape, None) or cv2.dnn.readNetFromONNX(weights_file)
            if len(networks) >= 4:
                networks.pop(next(iter(networks)))
            networks[pixels.shape] = network
            network.setInput(pixels)
            return [np.array(output) for output in network.forward(NAMES)]

    return run
