"""Run a trained pipeline over labelled faces, in one process or several under `accelerate launch`."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from model.pipeline_age_gender import AgeGenderPipeline
from trainer.row_picture import load_row_picture
from trainer.scores.evaluation import Predictions


@dataclass(frozen=True)
class Framing:
    """How a picture is seen before it is cut: to measure what a careless crop costs.

    margin: how much more than the picture is seen, as a share of its side (below 0: less); past the edge its last
    pixels are repeated. rotation_degrees: anticlockwise.
    """

    margin: float = 0.0
    rotation_degrees: float = 0.0

    def apply(self, image_rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) -> (H, W, 3)."""
        if not self.margin and not self.rotation_degrees:
            return image_rgb
        height, width = image_rgb.shape[:2]
        center = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(center, self.rotation_degrees, 1 / (1 + self.margin))
        return cv2.warpAffine(
            image_rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


class _FaceCrops(torch.utils.data.Dataset):
    """Row number, whether a face was found, and the crop the model looks at (zeros where none was)."""

    def __init__(self, faces: Dataset, pipe: AgeGenderPipeline, detect: bool, framing: Framing):
        self.faces, self.pipe, self.detect, self.framing = faces, pipe, detect, framing

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[int, bool, torch.Tensor]:
        image_rgb = self.framing.apply(load_row_picture(self.faces[index]))
        found = self.pipe.preprocess(image_rgb, detect=self.detect)
        if not found["faces"]:
            size = self.pipe.model.config.image_size
            return index, False, torch.zeros(3, size, size)
        # a labelled picture is of one person: the largest face
        largest = max(range(len(found["faces"])), key=lambda i: found["faces"][i].width)
        return index, True, found["pixel_values"][largest]


def predict(
    pipe: AgeGenderPipeline,
    faces: Dataset,
    accelerator: Accelerator,
    *,
    detect: bool = False,
    framing: Framing | None = None,
    batch_size: int = 64,
) -> tuple[Predictions, int]:
    """Predictions for the pictures of `faces`, and the number of pictures in which no face was found.

    Args:
        pipe: its model must be on the accelerator's device.
        faces: columns image, age, gender, race, group and, where ages are known as ranges, age_low and age_high.
        detect: find the face as the pipeline does; False takes each picture as a face crop.
    """
    crops = _FaceCrops(faces, pipe, detect, framing or Framing())
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
