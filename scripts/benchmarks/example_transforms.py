"""What the plain transformers image-classification example does to a picture before it is trained on."""

import io
import math
import random

import numpy as np
import torch
from PIL import Image

from scripts.benchmarks.measuring import Clock


MEAN = STD = [0.5, 0.5, 0.5]


class ExampleTransform:
    """The example's transforms: RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize, on one picture at a time.

    They are written out as torchvision does them on Pillow pictures, because there is no CPU build of it for this stack.
    """

    def __init__(self, size: int, age_starts: list[int], clock: Clock):
        self.size, self.age_starts, self.clock = size, age_starts, clock
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        with self.clock.phase("decode"):
            pictures = [Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in rows["image"]]
        with self.clock.phase("transforms"):
            pixel_values = [self.transform(picture) for picture in pictures]
        return {"pixel_values": pixel_values, "labels": np.digitize(rows["age"], self.age_starts) - 1}

    def transform(self, picture: Image.Image) -> torch.Tensor:
        """-> (3, size, size), normalised."""
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box=self.random_box(*picture.size))
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div_(255)
        return pixels.sub_(self.mean).div_(self.std)

    @staticmethod
    def random_box(width: int, height: int) -> tuple[int, int, int, int]:
        """8 to 100 % of the picture at an aspect of 3:4 to 4:3."""
        area = random.uniform(0.08, 1) * width * height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        box_w, box_h = min(width, round((area * aspect) ** 0.5)), min(height, round((area / aspect) ** 0.5))
        x, y = random.randint(0, width - box_w), random.randint(0, height - box_h)
        return x, y, x + box_w, y + box_h


def collate_example(rows: list[dict]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }
