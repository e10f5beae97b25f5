"""A pipeline with a tiny model of random weights, pictures for it, and when two of its answers are the same."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.tiny_model import IMAGE_SIZE, tiny_model
from trainer.build_model import make_image_processor


PHOTO = astronaut()
GROUP = np.tile(PHOTO[20:220, 130:330], (4, 5, 1))  # 20 faces


def make_pipe(**config_values) -> AgeGenderPipeline:
    model = tiny_model(**config_values)
    with torch.no_grad():  # random heads answer nearly the same for every face
        model.age_head.weight *= 20
        model.gender_head.weight *= 20
    return AgeGenderPipeline(model=model, image_processor=make_image_processor(IMAGE_SIZE), device="cpu")


def close(first, second) -> bool:
    """Nested answers equal but for the rounding of sums in another order."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(close(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(close, first, second))
    return first == pytest.approx(second, abs=1e-4) if isinstance(first, float) else first == second
