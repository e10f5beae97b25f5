"""Pictures in other colour spaces are read as sRGB."""

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.data import astronaut

from model.image_loading import load_rgb
from tests.support.colour_profiles import SPACES, in_space, profile
from tests.support.odd_pictures import encoded


PHOTO = Image.fromarray(astronaut()).resize((64, 48))
RGB = np.asarray(PHOTO)
GREY = np.asarray(PHOTO.convert("L").convert("RGB"))


PROFILES = {space: encoded("PNG", in_space(PHOTO, space), icc_profile=profile(space)) for space in SPACES}


@pytest.mark.parametrize("space", SPACES)
def test_colour_profiles(space: str):
    stored = in_space(PHOTO, space)
    assert np.abs(np.asarray(stored, int) - RGB).max() > 20  # what a reader that ignores the profile sees
    for image in (stored, stored.convert("RGBA")):
        loaded = load_rgb(encoded("PNG", image, icc_profile=profile(space)))
        assert np.abs(loaded.astype(int) - RGB).max() <= 4
    for kind, options in {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
        loaded = load_rgb(encoded(kind, stored, icc_profile=profile(space), **options))
        assert np.quantile(np.abs(loaded.astype(int) - RGB), 0.95) <= 5


@pytest.mark.parametrize(
    "content",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"no profile", profile("ProPhoto")[:200]],
)
def test_profile_that_changes_nothing(content: bytes):
    assert np.array_equal(load_rgb(encoded("PNG", PHOTO, icc_profile=content)), RGB)
    assert np.array_equal(load_rgb(encoded("PNG", PHOTO.convert("L"), icc_profile=profile("ProPhoto"))), GREY)
