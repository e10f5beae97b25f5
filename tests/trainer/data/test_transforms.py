"""Batches from decoded faces: normalised, and augmented within bounds."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image

from model.image_loading import PictureError, load_rgb
from trainer.data.transforms import AugmentationArguments, BatchTransform, collate_faces, decode_faces


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
