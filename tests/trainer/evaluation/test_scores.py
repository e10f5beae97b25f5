"""The scores of an evaluation: abstention, the worst group, the interval's coverage, on predictions with known answers."""

import numpy as np
import pytest

from model.configuration_age_gender import AgeGenderConfig
from trainer.evaluation.predictions import Evaluation, Predictions
from trainer.evaluation.scores import report_scores


def oracle(count: int = 400, gender_noise: float = 0.0) -> Predictions:
    """A model that is right about age, and about gender but for a share of faces of which it is less sure."""
    rng = np.random.default_rng(0)
    ages, genders = rng.integers(0, 100, count), rng.integers(0, 2, count)
    wrong = rng.random(count) < gender_noise
    sureness = np.where(wrong, 0.6, 0.95)
    answers = np.eye(2)[np.where(wrong, 1 - genders, genders)]
    gender_probs = np.where(answers == 1, sureness[:, None], 1 - sureness[:, None])
    years = np.arange(117)
    age_probs = np.exp(-np.abs(years - ages[:, None]) / 2.0)
    return Predictions(
        age_probs=age_probs / age_probs.sum(axis=1, keepdims=True),
        gender_probs=gender_probs,
        age_labels=np.stack([ages, ages], axis=1),
        gender_labels=genders,
        races=np.array(["White", "Black"])[rng.integers(0, 2, count)],
        groups=np.arange(count),
    )


def test_abstaining_pays_where_errors_are_unsure():
    config = AgeGenderConfig(gender_threshold=0.9)
    abstention = report_scores(Evaluation(oracle(gender_noise=0.1), config, draws=50))["gender"]["abstention"]
    assert abstention["accuracy"]["value"] == 1.0
    assert 0.85 < abstention["answered"]["value"] < 0.95
    assert abstention["curve"][0]["accuracy"]["value"] < 0.95
    assert abstention["curve"][-1]["accuracy"]["value"] == 1.0


def test_worst_group_is_found_and_small_ones_are_not_called_worst():
    predictions = oracle(1200)
    young_black_women = (
        (predictions.races == "Black") & (predictions.gender_labels == 1) & (predictions.age_labels[:, 0] < 20)
    )
    predictions.gender_probs[young_black_women] = [0.9, 0.1]
    predictions.races[:3] = "Asian"
    predictions.gender_probs[:3] = 1 - np.eye(2)[predictions.gender_labels[:3]]
    report = report_scores(Evaluation(predictions, AgeGenderConfig(), draws=50))
    worst = report["worst_group"]["gender_accuracy"]
    assert worst["worst"] == {
        "race": "Black", "gender": "female", "age": "0-19", "value": 0.0, "low": 0.0,
        "high": worst["worst"]["high"], "n": int(young_black_women[3:].sum()),
    }  # fmt: skip
    assert worst["gap"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": worst["worst"]["n"] + worst["best"]["n"]}
    ages = report["worst_group"]["age_mae"]
    assert ages["gap"]["value"] == pytest.approx(ages["worst"]["value"] - ages["best"]["value"], abs=1e-4)
    assert ages["gap"]["low"] <= ages["gap"]["value"] <= ages["gap"]["high"]
    assert any(group.get("race") == "Asian" for group in report["groups"])


def test_interval_coverage_by_age():
    config = AgeGenderConfig(interval_mass=0.5)
    interval = report_scores(Evaluation(oracle(), config, draws=50))["calibration"]["age_interval"]
    assert interval["coverage"]["value"] == 1.0
    assert [row["age_range"] for row in interval["by_age"]] == config.age_range_labels
    assert 1 < interval["width_years"]["value"] < 8
    assert {row["race"] for row in interval["by_race"]} == {"White", "Black"}


def test_a_model_of_young_ages_has_groups_too():
    faces, config = oracle(), AgeGenderConfig(max_age=50, age_ranges=[[0, 17], [18, 50]])
    young = faces.select(faces.age_labels[:, 1] <= 50)
    young.age_probs = young.age_probs[:, :51]
    groups = report_scores(Evaluation(young, config, draws=50))["groups"]
    assert [group["age"] for group in groups if group["by"] == "age"] == ["0-19", "20-39", "40+"]
