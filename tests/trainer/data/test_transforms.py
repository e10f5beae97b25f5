"""Batches from decoded faces: normalised, and augmented within bounds. What cameras and encoders do to pictures: compared with a
real encoder, and with what must not change.
"""

import io
import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from skimage.data import astronaut

from model.image_loading import PictureError, load_rgb
from trainer.data.transforms import (
    AugmentationArguments,
    BatchTransform,
    collate_faces,
    decode_faces,
    jpeg_artefacts,
    light,
    motion_blur,
)


PROBABILITIES = ("grayscale", "blur", "erasing", "jpeg", "motion_blur")
NONE = AugmentationArguments(
    flip=0, rotation_degrees=0, zoom_out=0, zoom_in=0, shift=0, color=0, grayscale=0, blur=0, erasing=0
)


def make_transform(augmentation=NONE, image_size=32) -> BatchTransform:
    return BatchTransform(image_size, [0.5] * 3, [0.5] * 3, augmentation)


@pytest.fixture
def pixels():
    torch.manual_seed(0)
    return torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "RGBA"])
def test_training_gets_the_same_pixels_as_the_pipeline(mode):
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    grey_16_bit = values[..., 0].astype(np.uint16) * 257
    picture = {
        "RGB": Image.fromarray(values[..., :3]),
        "L": Image.fromarray(values[..., 0]),
        "I;16": Image.fromarray(grey_16_bit),
        "RGBA": Image.fromarray(values),
    }[mode]
    faces = DatasetDict(train=Dataset.from_list([{"image": picture, "age": 30, "gender": 0}]))
    decoded = collate_faces(list(decode_faces(faces, 32, 32)["train"]))["pixel_values"][0]
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), load_rgb(picture))


def test_a_picture_that_cannot_be_decoded_is_named():
    """A set that was prepared elsewhere may hold one."""
    huge = {"image": Image.new("1", (8000, 8000)), "age": 30, "gender": 0, "file_name": "huge.png"}
    with pytest.raises(PictureError, match=r"^huge\.png: .* at most 50,000,000 pixels"):
        decode_faces(DatasetDict(train=Dataset.from_list([huge])), 32, 32)


def test_evaluation_only_normalises(pixels):
    torch.testing.assert_close(make_transform()(pixels, augment=False), pixels / 127.5 - 1)


def test_augmentation_of_strength_zero_changes_nothing(pixels):
    torch.testing.assert_close(make_transform()(pixels, augment=True), pixels / 127.5 - 1, atol=1e-4, rtol=0)


def test_flip_mirrors(pixels):
    flipped = make_transform(AugmentationArguments(**(vars(NONE) | {"flip": 1.0})))(pixels, augment=True)
    torch.testing.assert_close(flipped, (pixels / 127.5 - 1).flip(dims=[3]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in vars(NONE) if name != "flip"])
def test_each_augmentation_changes_pictures_within_bounds(pixels, name):
    strength = {"rotation_degrees": 30.0}.get(name, 1.0 if name in PROBABILITIES else 0.4)
    changed = make_transform(AugmentationArguments(**(vars(NONE) | {name: strength})))(pixels, augment=True)
    assert changed.shape == pixels.shape
    assert changed.min() >= -1
    assert changed.max() <= 1
    assert (changed - (pixels / 127.5 - 1)).abs().mean() > 0.01


def test_larger_training_pictures_come_out_at_image_size(pixels):
    transform = make_transform(AugmentationArguments(), image_size=24)
    assert transform(pixels, augment=True).shape == transform(pixels, augment=False).shape == (8, 3, 24, 24)


def test_collate():
    picture = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    rows = [
        {"pixels": picture.tobytes(), "age": 30, "gender": 1},
        {"pixels": picture.tobytes(), "age": -100, "gender": 0},
    ]
    batch = collate_faces(rows)
    assert batch["pixel_values"].shape == (2, 3, 4, 4)
    assert torch.equal(batch["pixel_values"][0, :, 1, 2], torch.from_numpy(picture[1, 2]))
    assert batch["age_labels"].tolist() == [30, -100]
    assert batch["gender_labels"].tolist() == [1, 0]


def test_collate_of_a_set_with_age_ranges():
    pixels = bytes(3 * 4 * 4)
    rows = [
        {"pixels": pixels, "age": 30, "age_low": 30, "age_high": 30, "gender": 1},
        {"pixels": pixels, "age": -100, "age_low": 20, "age_high": 29, "gender": 0},
        {"pixels": pixels, "age": -100, "age_low": -100, "age_high": -100, "gender": -100},
    ]
    assert collate_faces(rows)["age_labels"].tolist() == [[30, 30], [20, 29], [-100, -100]]


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
