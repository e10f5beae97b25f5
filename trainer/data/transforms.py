"""Pictures to batches: decode each face once at training size, then augment whole batches as tensors on the device."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from datasets import Dataset, DatasetDict, IterableDatasetDict, Value
from torch import nn
from torch.nn import functional as F

from model.face_alignment import resize_square
from trainer.data.sources import load_row_picture
from trainer.devices import forkable_opencv


LABELS = ("age", "age_low", "age_high", "gender")
DECODING_VERSION = 1  # part of the cache key: raise it when the same pictures get other pixels


@dataclass
class AugmentationArguments:
    """How training pictures are varied; every strength is 0 for none."""

    flip: float = field(default=0.5, metadata={"help": "Probability of mirroring a face."})
    rotation_degrees: float = field(default=15.0, metadata={"help": "Largest rotation either way."})
    zoom_out: float = field(
        default=0.3, metadata={"help": "Most that is seen around the face, as a share of the crop."}
    )
    zoom_in: float = field(default=0.15, metadata={"help": "Most that is cut off the crop, as a share of its side."})
    shift: float = field(default=0.08, metadata={"help": "Largest shift, as a share of the crop's side."})
    color: float = field(default=0.3, metadata={"help": "Strength of brightness, contrast and saturation changes."})
    grayscale: float = field(default=0.1, metadata={"help": "Probability of losing all colour."})
    blur: float = field(default=0.1, metadata={"help": "Probability of seeing the face at a third of its resolution."})
    erasing: float = field(
        default=0.25, metadata={"help": "Probability of hiding a random rectangle (Zhong et al., 2017)."}
    )


def decode_faces(
    faces: DatasetDict | IterableDatasetDict,
    image_size: int,
    train_size: int,
    num_proc: int | None = None,
) -> DatasetDict | IterableDatasetDict:
    """Replace `image` by `pixels`: raw RGB bytes of a square, `train_size` pixels wide in train, `image_size` elsewhere.

    `datasets` caches the result on disk and maps it into memory, so that no JPEG is decoded twice and processes share
    one copy. A streamed set is decoded as it flows.
    """
    decoded = {}
    for name, split in faces.items():
        unused = [column for column in split.column_names if column not in LABELS]
        size = train_size if name == "train" else image_size
        options = {"fn_kwargs": {"size": size, "version": DECODING_VERSION}, "remove_columns": unused}
        if isinstance(split, Dataset):
            options["features"] = _decoded_features(split, unused)
            options |= {"num_proc": num_proc, "desc": f"Decoding {name}"}
        with forkable_opencv(num_proc):
            decoded[name] = split.map(_decode_face, **options)
    return type(faces)(decoded)


def _decode_face(row: dict, size: int, version: int = DECODING_VERSION) -> dict:
    return {"pixels": resize_square(load_row_picture(row), size).tobytes()}


def _decoded_features(split: Dataset, unused: list[str]):
    features = split.features.copy()
    for column in unused:
        del features[column]
    features["pixels"] = Value("binary")
    return features


def collate_faces(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Decoded rows -> `pixel_values` (B, 3, S, S) uint8, `age_labels` (B,) or (B, 2), `gender_labels` (B,)."""
    pixels = np.stack([np.frombuffer(row["pixels"], dtype=np.uint8) for row in rows])
    side = math.isqrt(pixels.shape[1] // 3)
    if "age_low" in rows[0]:  # a set that knows ages as ranges, or a mixture
        ages = torch.tensor([_age_bounds(row) for row in rows])
    else:
        ages = torch.tensor([row["age"] for row in rows])
    return {
        "pixel_values": torch.from_numpy(pixels.reshape(-1, side, side, 3)).permute(0, 3, 1, 2).contiguous(),
        "age_labels": ages,
        "gender_labels": torch.tensor([row["gender"] for row in rows]),
    }


def _age_bounds(row: dict) -> tuple[int, int]:
    return (row["age"], row["age"]) if row["age"] >= 0 else (row["age_low"], row["age_high"])


class BatchTransform(nn.Module):
    """(B, 3, S, S) uint8 -> (B, 3, size, size) float, normalised; varied when asked to augment."""

    def __init__(self, image_size: int, mean: list[float], std: list[float], augmentation: AugmentationArguments):
        super().__init__()
        self.image_size = image_size
        self.augmentation = augmentation
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor, augment: bool, size: int | None = None) -> torch.Tensor:
        """`size` is `image_size` unless given."""
        size = size or self.image_size
        images = pixels.float() / 255
        if augment:
            images = self._move(images, size)
            images = self._color(images)
        elif images.shape[-1] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = images.sub(self.mean).div_(self.std)
        return self._hide(images) if augment else images

    def _move(self, images: torch.Tensor, size: int) -> torch.Tensor:
        """Mirror, rotate, zoom and shift each picture in one bilinear resampling."""
        if images.shape[-1] > 1.5 * size:  # a bilinear reading skips pixels where it shrinks that much
            images = F.interpolate(images, round(1.25 * size), mode="bilinear", antialias=True)
        options, batch, device = self.augmentation, len(images), images.device
        angle = _uniform(batch, device) * math.radians(options.rotation_degrees)
        # A side longer than 1 looks at more than the crop. Zooming out leaves more to see than zooming in takes away.
        zoom = torch.empty(batch, device=device).uniform_(1 - options.zoom_in, 1 + options.zoom_out)
        mirror = torch.where(torch.rand(batch, device=device) < options.flip, -1.0, 1.0)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        shift_xy = _uniform(2 * batch, device).view(2, batch) * 2 * options.shift  # the grid is 2 wide
        theta = torch.stack([mirror * cos, -sin, shift_xy[0], mirror * sin, cos, shift_xy[1]], dim=1).view(batch, 2, 3)
        grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        # drawn by the CPU: to ask a GPU which they are is to wait for it
        blurred = (torch.rand(batch) < options.blur).nonzero().squeeze(1).to(device, non_blocking=True)
        moved[blurred] = F.interpolate(F.avg_pool2d(moved[blurred], 3), size, mode="bilinear")
        return moved

    def _color(self, images: torch.Tensor) -> torch.Tensor:
        """Brightness, contrast and saturation are one 3 x 3 matrix and one offset a picture."""
        options, batch, device = self.augmentation, len(images), images.device
        brightness, contrast, saturation = (
            (1 + options.color * _uniform(3 * batch, device)).view(3, batch, 1, 1).unbind()
        )
        saturation = torch.where(_chosen(batch, options.grayscale, device), 0.0, saturation)
        to_gray = torch.full((3, 3), 1 / 3, device=device)
        matrix = brightness * contrast * (saturation * torch.eye(3, device=device) + (1 - saturation) * to_gray)
        offset = brightness * (1 - contrast) * images.mean(dim=(1, 2, 3)).view(batch, 1, 1)
        return torch.baddbmm(offset, matrix, images.flatten(2)).clamp_(0, 1).view_as(images)

    def _hide(self, images: torch.Tensor) -> torch.Tensor:
        """Random erasing: a rectangle of 5 to 25 % of the picture becomes grey."""
        batch, side, device = len(images), images.shape[-1], images.device
        area = torch.empty(batch, device=device).uniform_(0.05, 0.25)
        aspect = torch.empty(batch, device=device).uniform_(-0.7, 0.7).exp()
        half_hw = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]) * side / 2  # (2, B)
        center_yx = torch.rand(2, batch, device=device) * side
        line = torch.arange(side, device=device)
        inside_y, inside_x = (line - center_yx[..., None]).abs() < half_hw[..., None]  # (B, side) each
        hidden = inside_y[:, None, :, None] & inside_x[:, None, None, :]
        return images.masked_fill_(hidden & _chosen(batch, self.augmentation.erasing, device)[..., None], 0.0)


def _uniform(count: int, device: torch.device) -> torch.Tensor:
    """(count,) numbers between -1 and 1."""
    return torch.rand(count, device=device) * 2 - 1


def _chosen(batch: int, probability: float, device: torch.device) -> torch.Tensor:
    """(B, 1, 1) True for about `probability` of the batch."""
    return torch.rand(batch, 1, 1, device=device) < probability
