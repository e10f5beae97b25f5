import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from transformers import EvalPrediction

from model.configuration_age_gender import RANGE_SETS, AgeGenderConfig, parse_age_ranges
from trainer.evaluation.predictions import (
    Bootstrap,
    auc_of,
    calibration_error_of,
    macro_of,
    mean_of,
    median_of,
    ratio_of,
)
from trainer.metrics import AgeGenderMetric, batch_scores, build_compute_metrics, range_indices


CONFIG = AgeGenderConfig()


def certain(ages: list[int]) -> np.ndarray:
    """Logits of a model that is sure of these ages."""
    return np.where(np.eye(CONFIG.max_age + 1)[ages] == 1, 20.0, 0.0)


def compute(ages, genders, age_labels, gender_labels) -> dict[str, float]:
    predictions = (certain(ages), np.zeros((len(ages), 9)), np.eye(2)[genders] * 4)
    labels = (np.array(age_labels), np.array(gender_labels))
    return build_compute_metrics(CONFIG)(EvalPrediction(predictions=predictions, label_ids=labels))


def test_known_answers():
    scores = compute([30, 41, 5, 80], [0, 1, 1, 0], [30, 39, 12, 70], [0, 1, 0, 0])
    assert scores == pytest.approx(
        {
            "age_mae": (0 + 2 + 7 + 10) / 4,
            "age_cs5": 0.5,
            "age_range_accuracy": 0.5,  # 41 for 39, and 5 for 12, are one range off
            "age_range_within_one": 1.0,
            # labels 30-39 (twice), 10-19, 70+; answers 30-39, 40-49, 3-9, 70+
            "age_range_f1": (2 / 3 + 0 + 1) / 3,
            "gender_accuracy": 0.75,
            "gender_f1": (4 / 5 + 2 / 3) / 2,
            "gender_auc": 5 / 6,  # one pair of three is a tie
        },
        abs=1e-6,
    )


@pytest.mark.parametrize(
    ("age_labels", "gender_labels", "missing"),
    [
        ([30, 40], [-100, -100], {"gender_accuracy", "gender_f1", "gender_auc"}),
        ([30, 40], [1, 1], {"gender_auc"}),  # no pair to put in order
        ([-100, -100], [0, 1], {"age_mae", "age_cs5", "age_range_accuracy", "age_range_within_one", "age_range_f1"}),
        ([[30, 39], [40, 49]], [0, 1], {"age_mae", "age_cs5"}),  # ages known as ranges only
    ],
)
def test_what_has_no_label_has_no_score(age_labels, gender_labels, missing):
    complete = compute([30, 40], [0, 1], [30, 40], [0, 1])
    assert set(complete) - set(compute([30, 40], [0, 1], age_labels, gender_labels)) == missing


def test_unknown_labels_change_nothing():
    assert compute([30, 50, 41], [0, 0, 1], [31, -100, 41], [0, -100, 1]) == compute([30, 41], [0, 1], [31, 41], [0, 1])


@pytest.mark.parametrize(
    ("range_set", "label", "index"),
    [
        ("FairFace-9", [3, 9], 1),
        ("FairFace-9", [70, 116], 8),
        ("FairFace-9", [25, 25], 3),
        ("FairFace-9", [-100, -100], -100),
        ("14 ranges", [3, 9], -100),  # over "3-5" and "6-10": in neither for certain
        ("14 ranges", [28, 33], 7),
        ("DIT825-5", [20, 29], -100),
        ("DIT825-5", [30, 39], 1),
    ],
)
def test_range_of_a_label(range_set, label, index):
    assert range_indices(np.array([label]), parse_age_ranges(RANGE_SETS[range_set])).tolist() == [index]


def test_batches_add_up():
    rng = np.random.default_rng(0)
    faces = {
        "age_probs": rng.dirichlet(np.ones(117), 50),
        "gender_probs": rng.dirichlet(np.ones(2), 50),
        "age_labels": np.repeat(rng.integers(0, 100, (50, 1)), 2, axis=1),
        "gender_labels": rng.integers(0, 2, 50),
    }
    metric = AgeGenderMetric(CONFIG)
    for part in (slice(0, 20), slice(20, 50)):
        metric.add_batch(**{name: values[part] for name, values in faces.items()})
    assert metric.compute() == AgeGenderMetric(CONFIG).compute(**faces)


LABELS = np.random.default_rng(1).integers(0, 4, 300)
ANSWERS = np.where(np.random.default_rng(2).random(300) < 0.6, LABELS, 1)
SCORES = np.round(LABELS / 4 + np.random.default_rng(3).random(300), 1)  # rounded: many ties


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        (mean_of(SCORES), SCORES.mean()),
        (median_of(SCORES), np.median(SCORES)),
        (ratio_of(1.0 * ((LABELS == 1) & (ANSWERS == 1)), 1.0 * (ANSWERS == 1)), (LABELS[ANSWERS == 1] == 1).mean()),
        (macro_of(LABELS, ANSWERS, "f1"), f1_score(LABELS, ANSWERS, average="macro")),
        (macro_of(LABELS, ANSWERS, "precision"), precision_score(LABELS, ANSWERS, average="macro")),
        (macro_of(LABELS, ANSWERS, "recall"), recall_score(LABELS, ANSWERS, average="macro")),
        (auc_of(LABELS == 3, SCORES), roc_auc_score(LABELS == 3, SCORES)),
        (calibration_error_of(np.full(300, 0.9), LABELS == ANSWERS), abs(0.9 - (LABELS == ANSWERS).mean())),
    ],
    ids=[
        "mean",
        "median",
        "precision",
        "macro F1",
        "macro precision",
        "macro recall",
        "AUC with ties",
        "calibration error",
    ],
)
class TestResampledScores:
    def test_every_face_once_gives_the_score_itself(self, statistic, expected):
        assert statistic(np.ones((1, 300)))[0] == pytest.approx(expected)

    def test_the_interval_holds_it(self, statistic, expected):
        low, high = Bootstrap(np.arange(300), draws=300).interval(statistic)
        assert low <= expected <= high
        assert high - low < 0.4


@pytest.mark.parametrize(("values", "median"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([1.0], 1.0)])
def test_median_of_an_even_number_is_halfway(values, median):
    assert median_of(np.array(values))(np.ones((1, len(values)))) == median


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(4).normal(size=2000)
    low, high = Bootstrap(np.arange(2000), draws=2000).interval(mean_of(values))
    assert (low, high) == pytest.approx((values.mean() - 1.96 / 2000**0.5, values.mean() + 1.96 / 2000**0.5), abs=0.006)


def test_copies_of_a_picture_are_no_independent_evidence():
    values = np.repeat(np.random.default_rng(5).normal(size=200), 9)
    width = {}
    for name, groups in (("apart", np.arange(1800)), ("together", np.repeat(np.arange(200), 9))):
        low, high = Bootstrap(groups, draws=500).interval(mean_of(values))
        width[name] = high - low
    assert width["together"] == pytest.approx(3 * width["apart"], rel=0.2)


def test_large_sets_are_resampled_in_parts():
    values = np.random.default_rng(6).normal(size=9000)
    bootstrap = Bootstrap(np.arange(9000), draws=1000)  # above MAX_CELLS
    whole = np.quantile(mean_of(values)(bootstrap.weights.astype(float)), [0.025, 0.975])
    assert bootstrap.interval(mean_of(values)) == pytest.approx(whole)


@pytest.mark.parametrize("as_ranges", [False, True])
def test_scores_of_a_training_batch_are_those_of_the_metric(as_ranges):
    ages, genders, age_labels, gender_labels = [30, 41, 5, 80], [0, 1, 1, 0], [30, 39, -100, 70], [0, 1, 0, -100]
    years = torch.tensor(age_labels)
    if as_ranges:
        years = torch.stack([years, years], dim=1)
        years[1] = torch.tensor([30, 39])  # no exact age any more
    age_logits, gender_logits = torch.tensor(certain(ages)), torch.eye(2)[genders]
    error, count, hits, labelled = batch_scores(age_logits, gender_logits, years, torch.tensor(gender_labels)).tolist()
    assert (error, count) == ((10, 2) if as_ranges else (12, 3))
    assert (hits, labelled) == (2, 3)
