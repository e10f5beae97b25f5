"""What the labels of duplicates say about the lowest error that a model can have."""

import numpy as np
import pandas as pd
import pytest

from trainer.data.report import measure_label_noise


def test_label_noise():
    """Two pairs 4 and 0 years apart, one of them with different genders; a single picture does not count."""
    manifest = pd.DataFrame(
        {
            "group": ["a", "a", "b", "b", "c", ""],
            "pixel_hash": ["1", "2", "3", "3", "4", ""],
            "source_age": [20, 24, 30, 30, 50, -100],
            "source_gender": [0, 1, 0, 0, 1, -100],
        }
    )
    noise = measure_label_noise(manifest)
    assert (noise.groups, noise.pictures) == (2, 4)
    assert noise.age_difference_years[0] == 2
    assert noise.lowest_age_mae == (1, 2)
    assert noise.gaussian_age_mae == pytest.approx(2**0.5)
    assert noise.same_age[0] == noise.gender_disagreement[0] == 0.5
    assert noise.highest_gender_accuracy == 0.5
    assert measure_label_noise(manifest, identical_only=True).age_difference_years[0] == 0
    assert measure_label_noise(manifest[manifest["group"] == "c"]) is None


def test_bounds_of_the_lowest_mae_hold_for_simulated_noise():
    random = np.random.default_rng(0)
    for noise in (
        random.normal(0, 4, (4000, 2)),
        random.laplace(0, 3, (4000, 2)),
        random.choice([-6, 0, 6], (4000, 2)),
    ):
        labels = (50 + noise).round().astype(int)
        manifest = pd.DataFrame(
            {"group": np.repeat(np.arange(4000), 2).astype(str), "source_age": labels.ravel(), "source_gender": 0}
        )
        low, high = measure_label_noise(manifest).lowest_age_mae
        assert low <= np.abs(labels - 50).mean() <= high
