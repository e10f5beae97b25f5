"""From distributions over years to an age, an interval and ranges."""

import numpy as np
import pytest

from model.configuration_age_gender import RANGE_SETS, parse_age_ranges
from model.decoding_age_gender import age_interval, conformal_mass, estimate_age, range_probabilities, softmax


def gaussians(means: np.ndarray, sigma: float) -> np.ndarray:
    return softmax(-((np.arange(117) - means[:, None]) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(
    ("probabilities", "median", "mean"),
    [
        ({30: 1.0}, 30.0, 30.0),
        ({30: 0.5, 31: 0.5}, 30.5, 30.5),
        ({20: 0.6, 80: 0.4}, 20.333, 44.0),  # the median stays with the majority
        ({0: 1.0}, 0.0, 0.0),
        ({116: 1.0}, 116.0, 116.0),
    ],
)
def test_estimate_age(probabilities, median, mean):
    distribution = np.zeros((1, 117))
    for year, probability in probabilities.items():
        distribution[0, year] = probability
    assert estimate_age(distribution, "median")[0] == pytest.approx(median, abs=1e-3)
    assert estimate_age(distribution, "mean")[0] == pytest.approx(mean, abs=1e-3)


def test_median_moves_smoothly():
    ages = estimate_age(gaussians(np.linspace(30, 32, 41), sigma=3), "median")
    assert np.abs(np.diff(ages)).max() < 0.06


def test_interval_widens_with_doubt_and_mass():
    narrow, wide = (age_interval(gaussians(np.array([40.0]), sigma), 0.8)[0] for sigma in (2, 8))
    assert narrow.tolist() == [37, 43]
    assert wide[0] < narrow[0]
    assert wide[1] > narrow[1]
    assert age_interval(gaussians(np.array([40.0]), 2), 0.5)[0].tolist() == [39, 41]


def test_interval_of_everything_stays_on_the_scale():
    assert age_interval(np.full((1, 117), 1 / 117, dtype=np.float32), 1.0)[0].tolist() == [0, 116]


def test_conformal_interval_covers_new_faces_at_the_stated_rate():
    random = np.random.default_rng(0)
    predicted = random.uniform(10, 90, 8000)
    labels = np.clip(np.rint(predicted + random.normal(0, 6, 8000)), 0, 116).astype(int)
    probabilities = gaussians(predicted, sigma=3)  # overconfident: the errors are twice as wide
    mass = conformal_mass(probabilities[:4000], labels[:4000], coverage=0.8)
    low, high = age_interval(probabilities[4000:], mass).T
    covered = ((labels[4000:] >= low) & (labels[4000:] <= high)).mean()
    assert covered == pytest.approx(0.8, abs=0.03)
    assert mass > 0.9


@pytest.mark.parametrize(
    ("faces", "coverage", "is_everything"),
    [
        (0, 0.8, True),
        (3, 0.8, True),  # the largest of three scores covers a new face in 3 of 4 cases
        (4, 0.8, False),
        (3, 0.99, True),
        (98, 0.99, True),
        (99, 0.99, False),
    ],
)
def test_too_few_faces_for_the_coverage_need_the_whole_scale(faces, coverage, is_everything):
    probabilities = gaussians(np.full(faces, 40.0), sigma=3)
    mass = conformal_mass(probabilities, np.full(faces, 40), coverage)
    assert (mass == 1) == is_everything
    low, high = age_interval(gaussians(np.array([40.0]), sigma=3), mass)[0]
    assert ((low, high) == (0, 116)) == is_everything


@pytest.mark.parametrize("name", RANGE_SETS)
def test_range_probabilities_sum_to_one(name):
    probabilities = softmax(np.random.default_rng(0).normal(size=(4, 117)))
    np.testing.assert_allclose(range_probabilities(probabilities, parse_age_ranges(RANGE_SETS[name])).sum(axis=1), 1)
