"""Run a model over labelled faces, on one or several devices, and time its network."""

import copy
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from trainer.data.rows import load_row_picture
from trainer.evaluation.predictions import Predictions
from trainer.run_record import cpu_name


WARM_UP, TIMED = 5, 30  # forward passes


@dataclass(frozen=True)
class Framing:
    """A change of a picture before it is cropped, to measure what a careless crop or a poor picture costs.

    Attributes:
        margin: how much more than the picture is seen, as a fraction of its side (below 0: less); beyond the edge the
            border pixels are repeated.
        rotation_degrees: anticlockwise.
        pixels: side of the picture that the crop is enlarged from, as of a small face; None: as it is.
        blur: standard deviation of a Gaussian blur, as a fraction of the side.
    """

    margin: float = 0.0
    rotation_degrees: float = 0.0
    pixels: int | None = None
    blur: float = 0.0

    def apply(self, image_rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) -> (H, W, 3)."""
        height, width = image_rgb.shape[:2]
        if self.margin or self.rotation_degrees:
            center = ((width - 1) / 2, (height - 1) / 2)
            matrix = cv2.getRotationMatrix2D(center, self.rotation_degrees, 1 / (1 + self.margin))
            image_rgb = cv2.warpAffine(
                image_rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        if self.pixels:
            small = cv2.resize(image_rgb, (self.pixels, self.pixels), interpolation=cv2.INTER_AREA)
            image_rgb = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.blur:
            image_rgb = cv2.GaussianBlur(image_rgb, (0, 0), self.blur * width)
        return image_rgb


class _FaceCrops(torch.utils.data.Dataset):
    """Row number, whether a face was found, and the crop for the model (zeros where none was)."""

    def __init__(self, faces: Dataset, pipe: AgeGenderPipeline, detect: bool, framing: Framing):
        self.faces, self.pipe, self.detect, self.framing = faces, pipe, detect, framing

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[int, bool, torch.Tensor]:
        image_rgb = self.framing.apply(load_row_picture(self.faces[index]))
        prepared = self.pipe.preprocess(image_rgb, detect=self.detect)
        if not prepared.faces:
            size = self.pipe.model.config.image_size
            return index, False, torch.zeros(3, size, size)
        # A labelled picture is of one person: the largest face.
        largest = max(range(len(prepared.faces)), key=lambda i: prepared.faces[i].width)
        return index, True, prepared.pixel_values[largest]


def predict(
    pipe: AgeGenderPipeline,
    faces: Dataset,
    accelerator: Accelerator,
    *,
    detect: bool = False,
    framing: Framing = Framing(),
    batch_size: int = 64,
) -> tuple[Predictions, int]:
    """Predictions for the pictures of `faces`, and the number of pictures in which no face was found.

    Args:
        pipe: its model must be on the accelerator's device.
        faces: columns image, age, gender, race, group and, where ages are known as ranges, age_low and age_high.
        detect: detect and align the face as the pipeline does; False takes each picture as a face crop.
        framing: a change of every picture.
        batch_size: faces in one forward pass, per process.
    """
    crops = _FaceCrops(faces, pipe, detect, framing)
    loader = accelerator.prepare(DataLoader(crops, batch_size=batch_size))
    parts = []
    for rows, found, pixel_values in tqdm(loader, desc="Predicting", disable=not accelerator.is_main_process):
        with torch.inference_mode():
            output = pipe.model(pixel_values.to(pipe.model.dtype))
        gathered = accelerator.gather_for_metrics(
            (rows, found, output.age_logits.float(), output.gender_logits.float())
        )
        parts.append([values.cpu().numpy() for values in gathered])
    rows, found, age_logits, gender_logits = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(rows)
    order = order[found[order]]
    return Predictions.of(age_logits[order], gender_logits[order], faces.select(rows[order])), int((~found).sum())


def network_cost(model: AgeGenderModel) -> dict[str, Any]:
    """`milliseconds_on_one_core`, the median of 30 forward passes of one face in fp32, and the name of the `processor`.

    Horizontal-flip test-time augmentation is included where the model uses it; detection and alignment are not.
    """
    on_cpu = copy.deepcopy(model).cpu().float().eval()
    pixel_values = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = [_forward_seconds(on_cpu, pixel_values) for _ in range(WARM_UP + TIMED)][WARM_UP:]
    finally:
        torch.set_num_threads(threads)
    return {"milliseconds_on_one_core": round(1000 * median(seconds), 1), "processor": cpu_name()}


def _forward_seconds(model: AgeGenderModel, pixel_values: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        model(pixel_values)
    return time.perf_counter() - start
