"""What cameras and encoders do to pictures: compared with a real encoder, and with what must not change."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from trainer.data.photo_faults import jpeg_artefacts, light, motion_blur


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """(1, 3, 96, 96) of a portrait."""
    crop = Image.fromarray(astronaut()[60:184, 162:286]).resize((96, 96), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None] / 255


def encoded(picture: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
        decoded = np.array(Image.open(file))
    return torch.from_numpy(decoded).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("quality", [15, 40, 80])
def test_artefacts_are_those_of_an_encoder(picture, quality):
    ours, theirs = jpeg_artefacts(picture, torch.tensor([float(quality)])), encoded(picture, quality)
    own_error, difference = (theirs - picture).abs().mean(), (ours - theirs).abs().mean()
    assert difference < 0.7 * own_error  # the encoder has another table for colours


def test_artefacts_of_any_size_and_of_each_picture_for_itself(picture):
    crops = picture[..., :50, :50].repeat(2, 1, 1, 1)
    spoilt = jpeg_artefacts(crops, torch.tensor([5.0, 95.0]))
    assert spoilt.shape == crops.shape
    errors = (spoilt - crops).abs().mean(dim=(1, 2, 3))
    assert errors[0] > 3 * errors[1]


def test_motion_blurs_along_its_path():
    dot = torch.zeros(3, 3, 31, 31)
    dot[:, :, 15, 15] = 1
    angles = torch.tensor([0.0, math.pi / 2, 0.0])
    blurred = motion_blur(dot, torch.tensor([8.0, 8.0, 0.0]), angles)
    torch.testing.assert_close(blurred.sum(dim=(2, 3)), torch.ones(3, 3))
    assert (blurred[0, 0].sum(dim=1) > 0).sum() == 1  # one row
    assert (blurred[1, 0].sum(dim=0) > 1e-6).sum() == 1  # one column
    assert (blurred[0, 0, 15] > 0).sum() == 9
    torch.testing.assert_close(blurred[2], dot[2])


def test_no_pictures(picture):
    """As when none of a batch is chosen."""
    none, no_values = picture[:0], torch.zeros(0)
    assert jpeg_artefacts(none, no_values).shape == motion_blur(none, no_values, no_values).shape == none.shape


def test_light(picture):
    unchanged = light(picture, torch.ones(1), torch.ones(1, 3))
    torch.testing.assert_close(unchanged, picture, atol=1e-3, rtol=0)
    assert light(picture, torch.tensor([2.0]), torch.ones(1, 3)).mean() < picture.mean()
    warm = light(picture, torch.ones(1), torch.tensor([[1.2, 1.0, 0.8]])).mean(dim=(2, 3))[0]
    assert warm[0] > warm[1] > warm[2]
