"""What phones, apps and bad light do to a photograph, as operations on batches of pictures: for augmentation."""

import math

import torch
from torch.nn import functional as F


# The luminance table of the JPEG standard (ITU T.81, annex K), for a quality of 50.
QUANTISATION = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
BLOCK = 8
RGB_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


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
