"""From pictures to batches: decode each face once at training size, then augment whole batches on the device, also with what
phones, apps and bad light do to a photograph.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value
from torch import nn
from torch.nn import functional as F

from model.face_alignment import resize_square
from trainer.data.rows import load_row_picture
from trainer.devices import forkable_opencv


# The luminance table of the JPEG standard (ITU T.81, annex K), for a quality of 50.
QUANTISATION = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
BLOCK = 8
RGB_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))

TARGETS = ("age", "age_low", "age_high", "gender")  # the columns that training needs besides the pixels
DECODING_VERSION = 1  # part of the cache key: raise it when the same pictures get other pixels


def jpeg_artefacts(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Rounds the frequencies of 8 x 8 blocks as a JPEG encoder does (with one table for all channels).

    Args:
        images: (B, 3, S, S) RGB in 0..1. quality: (B,) from 1 to 99, as of encoders.
    """
    if not len(images):
        return images
    batch, _, side, _ = images.shape
    device = images.device
    padded_side = -(-side // BLOCK) * BLOCK
    to_ycc = torch.tensor(RGB_TO_YCC, device=device)
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, images * 255)
    ycc = F.pad(ycc, [0, padded_side - side] * 2, mode="replicate")
    blocks = ycc.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))  # (B, 3, rows, 8, columns, 8)
    frequency, position = torch.arange(BLOCK, device=device)[:, None], torch.arange(BLOCK, device=device)
    cosines = ((2 * position + 1) * frequency * math.pi / (2 * BLOCK)).cos() * (2 / BLOCK) ** 0.5
    cosines[0] /= 2**0.5
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(batch, 1, 1, 1, 1, 1)
    table = torch.tensor(QUANTISATION, device=device, dtype=images.dtype).view(1, 1, 1, BLOCK, 1, BLOCK)
    steps = (table * scale).clamp(min=1)
    coefficients = torch.einsum("up,bcrpsq,vq->bcrusv", cosines, blocks, cosines)
    coefficients = (coefficients / steps).round() * steps
    decoded = torch.einsum("up,bcrusv,vq->bcrpsq", cosines, coefficients, cosines).flatten(4).flatten(2, 3)
    rgb = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_ycc), decoded[..., :side, :side])
    return (rgb / 255).clamp(0, 1)


def motion_blur(images: torch.Tensor, length: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Averages along a straight path, as when a hand or a face moves during the exposure.

    Args:
        images: (B, 3, S, S). length: (B,) of the path in pixels, up to 15. angle: (B,) in radians.
    """
    if not len(images):
        return images
    batch, channels, side, _ = images.shape
    reach = 7
    line = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    cos, sin, half = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1), length.view(-1, 1, 1) / 2
    along, across = line * cos + line[:, None] * sin, line[:, None] * cos - line * sin  # (B, 15, 15)
    kernels = (half + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(min=0)
    kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
    padded = F.pad(images, [reach] * 4, mode="replicate").view(1, batch * channels, side + 2 * reach, -1)
    weights = kernels.repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(padded, weights, groups=batch * channels).view_as(images)


def light(images: torch.Tensor, gamma: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Over- or underexposure, and a colour cast.

    Args:
        images: (B, 3, S, S) in 0..1. gamma: (B,), above 1 for darker. gains: (B, 3), of red, green and blue.
    """
    return (images.clamp(min=1e-4) ** gamma.view(-1, 1, 1, 1) * gains[..., None, None]).clamp(0, 1)


@dataclass
class AugmentationArguments:
    """Strengths of the random augmentation of training pictures; 0 switches one off."""

    flip: float = field(default=0.5, metadata={"help": "Probability of a horizontal flip."})
    rotation_degrees: float = field(default=15.0, metadata={"help": "Largest rotation in either direction."})
    zoom_out: float = field(
        default=0.3, metadata={"help": "Largest margin that is added around the crop, as a fraction of its side."}
    )
    zoom_in: float = field(
        default=0.15, metadata={"help": "Largest part that is cut off the crop, as a fraction of its side."}
    )
    shift: float = field(default=0.08, metadata={"help": "Largest shift, as a fraction of the crop's side."})
    color: float = field(default=0.3, metadata={"help": "Strength of brightness, contrast and saturation changes."})
    grayscale: float = field(default=0.1, metadata={"help": "Probability of converting a face to greyscale."})
    blur: float = field(default=0.1, metadata={"help": "Probability of reducing a face to a third of its resolution."})
    erasing: float = field(
        default=0.25, metadata={"help": "Probability of erasing a random rectangle (Zhong et al., 2017)."}
    )
    jpeg: float = field(default=0.0, metadata={"help": "Probability of JPEG artefacts, at a quality of 10 to 70."})
    motion_blur: float = field(
        default=0.0, metadata={"help": "Probability of motion blur, along up to an eighth of the crop's side."}
    )
    light: float = field(
        default=0.0, metadata={"help": "Strength of under- and overexposure and, a third as strong, of a colour cast."}
    )


def decode_faces(
    faces: DatasetDict | IterableDatasetDict,
    image_size: int,
    train_size: int,
    num_proc: int | None = None,
) -> DatasetDict | IterableDatasetDict:
    """Replace `image` by `pixels`, the raw RGB bytes of a square; of the other columns, keep TARGETS.

    `datasets` caches the result on disk and memory-maps it: each picture is decoded once, and processes share the memory.
    A stream is decoded while it is read.

    Args:
        faces: splits with the columns of `trainer.data.loading.load_faces`.
        image_size: side in pixels of the square in validation and test.
        train_size: side in pixels in train.
        num_proc: processes that decode; unused for a stream.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    decoded = {}
    for name, split in faces.items():
        unused = [column for column in split.column_names if column not in TARGETS]
        size = train_size if name == "train" else image_size
        options: dict[str, Any] = {"fn_kwargs": {"size": size, "version": DECODING_VERSION}, "remove_columns": unused}
        if isinstance(split, Dataset):
            options["features"] = _decoded_features(split, unused)
            options |= {"num_proc": num_proc, "desc": f"Decoding {name}"}
        with forkable_opencv(num_proc):
            decoded[name] = split.map(_decode_face, **options)
    return type(faces)(decoded)


def _decode_face(row: dict[str, Any], size: int, version: int = DECODING_VERSION) -> dict[str, Any]:
    return {"pixels": resize_square(load_row_picture(row), size).tobytes()}


def _decoded_features(split: Dataset, unused: list[str]) -> Features:
    features = split.features.copy()
    for column in unused:
        del features[column]
    features["pixels"] = Value("binary")
    return features


def collate_faces(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Decoded rows -> `pixel_values` (B, 3, S, S) uint8, `age_labels` (B,) years or (B, 2) ranges, `gender_labels` (B,).

    Labels are -100 where unknown.
    """
    pixels = np.stack([np.frombuffer(row["pixels"], dtype=np.uint8) for row in rows])
    side = math.isqrt(pixels.shape[1] // 3)
    if "age_low" in rows[0]:  # a set, or one of a mixture, has age ranges
        ages = torch.tensor([_age_bounds(row) for row in rows])
    else:
        ages = torch.tensor([row["age"] for row in rows])
    return {
        "pixel_values": torch.from_numpy(pixels.reshape(-1, side, side, 3)).permute(0, 3, 1, 2).contiguous(),
        "age_labels": ages,
        "gender_labels": torch.tensor([row["gender"] for row in rows]),
    }


def _age_bounds(row: dict[str, Any]) -> tuple[int, int]:
    return (row["age"], row["age"]) if row["age"] >= 0 else (row["age_low"], row["age_high"])


def age_bounds(faces: Dataset | IterableDataset) -> np.ndarray:
    """(N, 2) inclusive years of each face's age: the exact age twice where it is known, -100 where nothing is."""
    columns = [name for name in ("age", "age_low", "age_high") if name in faces.column_names]
    labels = {name: np.array(list(faces.select_columns(columns)[name])) for name in columns}
    bounds = (labels.get(name, labels["age"]) for name in ("age_low", "age_high"))
    return np.stack([np.where(labels["age"] >= 0, labels["age"], years) for years in bounds], axis=1)


class BatchTransform(nn.Module):
    """Normalise batches of decoded faces and, in training, augment them.

    Args:
        image_size: side in pixels of what the model gets.
        mean, std: of the three channels, in values from 0 to 1.
        augmentation: strengths.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, image_size: int, mean: list[float], std: list[float], augmentation: AugmentationArguments):
        super().__init__()
        self.image_size = image_size
        self.augmentation = augmentation
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor, augment: bool, size: int | None = None) -> torch.Tensor:
        """(B, 3, S, S) uint8 -> (B, 3, size, size) float, normalised; `size` is `image_size` unless given."""
        size = size or self.image_size
        images = pixels.float() / 255
        if augment:
            images = self._move(images, size)
            images = self._color(images)
            images = self._spoil(images)
        elif images.shape[-1] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = images.sub(self.mean).div_(self.std)
        return self._erase(images) if augment else images

    def to_rgb(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Normalised pictures -> RGB in 0..1."""
        return pixel_values * self.std + self.mean

    def _move(self, images: torch.Tensor, size: int) -> torch.Tensor:
        """Flip, rotate, zoom and shift each picture in one bilinear resampling; blur some."""
        if images.shape[-1] > 1.5 * size:  # bilinear sampling skips pixels when it shrinks that much
            images = F.interpolate(images, round(1.25 * size), mode="bilinear", antialias=True)
        options, batch, device = self.augmentation, len(images), images.device
        angle = _uniform(batch, device) * math.radians(options.rotation_degrees)
        # the side of the sampled square; above 1 it reaches beyond the crop
        zoom = torch.empty(batch, device=device).uniform_(1 - options.zoom_in, 1 + options.zoom_out)
        flip = torch.where(torch.rand(batch, device=device) < options.flip, -1.0, 1.0)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        shift_xy = _uniform(2 * batch, device).view(2, batch) * 2 * options.shift  # the grid is 2 wide
        theta = torch.stack([flip * cos, -sin, shift_xy[0], flip * sin, cos, shift_xy[1]], dim=1).view(batch, 2, 3)
        grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
        moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        blurred = _some(batch, options.blur, device)
        moved[blurred] = F.interpolate(F.avg_pool2d(moved[blurred], 3), size, mode="bilinear")
        return moved

    def _color(self, images: torch.Tensor) -> torch.Tensor:
        """Change brightness, contrast and saturation by one 3 x 3 matrix and one offset for each picture."""
        options, batch, device = self.augmentation, len(images), images.device
        brightness, contrast, saturation = (
            (1 + options.color * _uniform(3 * batch, device)).view(3, batch, 1, 1).unbind()
        )
        saturation = torch.where(_chosen(batch, options.grayscale, device), 0.0, saturation)
        to_gray = torch.full((3, 3), 1 / 3, device=device)
        matrix = brightness * contrast * (saturation * torch.eye(3, device=device) + (1 - saturation) * to_gray)
        offset = brightness * (1 - contrast) * images.mean(dim=(1, 2, 3)).view(batch, 1, 1)
        return torch.baddbmm(offset, matrix, images.flatten(2)).clamp_(0, 1).view_as(images)

    def _spoil(self, images: torch.Tensor) -> torch.Tensor:
        """Bad light and motion when the photograph was taken, and a JPEG encoder after that."""
        options, batch, side, device = self.augmentation, len(images), images.shape[-1], images.device
        if options.light:
            gamma = (options.light * _uniform(batch, device)).exp()
            gains = (options.light / 3 * _uniform(3 * batch, device)).exp().view(batch, 3)
            images = light(images, gamma, gains)
        if options.motion_blur:
            rows = _some(batch, options.motion_blur, device)
            length = torch.rand(len(rows), device=device) * min(side / 8, 14) + 1
            images[rows] = motion_blur(images[rows], length, _uniform(len(rows), device) * math.pi)
        if options.jpeg:
            rows = _some(batch, options.jpeg, device)
            images[rows] = jpeg_artefacts(images[rows], torch.rand(len(rows), device=device) * 60 + 10)
        return images

    def _erase(self, images: torch.Tensor) -> torch.Tensor:
        """Random erasing: a rectangle of 5 to 25 % of the picture becomes 0, the mean colour."""
        batch, side, device = len(images), images.shape[-1], images.device
        area = torch.empty(batch, device=device).uniform_(0.05, 0.25)
        aspect = torch.empty(batch, device=device).uniform_(-0.7, 0.7).exp()
        half_hw = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]) * side / 2  # (2, B)
        center_yx = torch.rand(2, batch, device=device) * side
        line = torch.arange(side, device=device)
        inside_y, inside_x = (line - center_yx[..., None]).abs() < half_hw[..., None]  # (B, side) each
        inside = inside_y[:, None, :, None] & inside_x[:, None, None, :]
        return images.masked_fill_(inside & _chosen(batch, self.augmentation.erasing, device)[..., None], 0.0)


def _uniform(count: int, device: torch.device) -> torch.Tensor:
    """(count,) random numbers between -1 and 1."""
    return torch.rand(count, device=device) * 2 - 1


def _some(batch: int, probability: float, device: torch.device) -> torch.Tensor:
    """Rows of about `probability` of the batch, drawn on the CPU: `nonzero` on the device would force a synchronisation."""
    return (torch.rand(batch) < probability).nonzero().squeeze(1).to(device, non_blocking=True)


def _chosen(batch: int, probability: float, device: torch.device) -> torch.Tensor:
    """(B, 1, 1) True for about `probability` of the batch."""
    return torch.rand(batch, 1, 1, device=device) < probability
