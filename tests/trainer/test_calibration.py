"""Calibration, fitted on validation: temperature scaling, conformal intervals, abstention threshold."""

import logging

import numpy as np
import pytest
import torch
from transformers import ViTConfig

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import age_interval, softmax
from model.losses_age_gender import IGNORE_INDEX
from model.modeling_age_gender import AgeGenderModel
from trainer.abstention import abstention_threshold
from trainer.calibration import Calibration, fit_calibration, fit_temperature


def fine_tuned(
    faces: int, *, errors: int = 0, sharpness: float = 1.0, seed: int = 0, target: float = 0.95
) -> Calibration:
    """The calibration of a model that was fine-tuned from a calibrated one, on `faces` made-up validation faces.

    Args:
        errors: wrongly predicted genders.
        sharpness: factor of the logits; above 1 the model has become too confident.
    """
    random = np.random.default_rng(seed)
    ages = random.integers(5, 90, faces)
    age_logits = -((np.arange(117) - (ages + random.normal(0, 5, faces))[:, None]) ** 2) / (2 * 5**2)
    genders = random.integers(0, 2, faces)
    margins = random.uniform(1, 8, faces) * np.where(np.arange(faces) < errors, -1, 1)
    gender_logits = np.stack([np.zeros(faces), margins * np.where(genders == 1, 1, -1)], axis=1)
    config = AgeGenderConfig(gender_threshold=0.9, interval_mass=0.75, age_estimate="mean")
    return fit_calibration(
        age_logits * sharpness, gender_logits * sharpness, ages, genders, config, target, finetuned_from="user/repo"
    )


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_overconfidence(sharpness):
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 4))
    labels = (softmax(logits).cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    assert fit_temperature(logits * sharpness, labels) == pytest.approx(sharpness, rel=0.05)


def test_abstention_reaches_the_stated_accuracy():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 20_000)
    correct = random.random(20_000) < confidence
    threshold, answered, reached, _ = abstention_threshold(confidence, correct, target_accuracy=0.9)
    assert threshold == pytest.approx(0.8, abs=0.02)  # the mean of 0.8 to 1 is 0.9
    assert answered == pytest.approx(0.4, abs=0.04)
    assert reached


def test_the_target_accuracy_holds_on_other_faces():
    random = np.random.default_rng(0)
    kept = 0
    for _ in range(200):
        confidence = random.uniform(0.5, 1, (2, 2000))
        correct = random.random((2, 2000)) < confidence
        threshold, *_ = abstention_threshold(confidence[0], correct[0], target_accuracy=0.9)
        kept += correct[1][confidence[1] >= threshold].mean() >= 0.9
    assert kept / 200 > 0.75  # of accuracies that touch it on the fitted faces half would


@pytest.mark.parametrize(
    ("faces", "wrong", "prior", "expected", "answered"),  # the faces have confidences from 1 down to 0.6
    [
        (6, [], 0.7, 0.7, 4 / 6),  # no evidence: the prior stays
        (51, [], 0.7, 0.7, 38 / 51),  # 51 faces without an error do not prove 95 %
        (52, [], 0.7, 0.6, 1),  # 52 do
        (600, [], 0.7, 0.6, 1),
        (600, [], 0.5, 0.5, 1),  # nothing shows that less confident faces are predicted wrongly
        (10, [4], 0.5, 0.5, 1),  # one error among ten is no evidence against 95 %
        (50, [3, 20, 40], 0.5, 0.5, 1),
        (300, range(0, 300, 3), 0.5, 0.5, 1),  # to abstain does not help: the errors do not depend on the confidence
        (300, range(0, 300, 3), 0.7, 0.7, 0.75),
    ],
)
def test_the_threshold_moves_as_far_as_the_faces_show(faces, wrong, prior, expected, answered):
    correct = ~np.isin(np.arange(faces), list(wrong))
    threshold = abstention_threshold(np.linspace(1, 0.6, faces), correct, 0.95, prior)
    assert threshold.value == pytest.approx(expected)
    assert threshold.answered == pytest.approx(answered, abs=0.01)


def test_few_faces_raise_the_threshold_where_they_show_that_it_is_too_low():
    confidence = np.linspace(1, 0.5, 300)
    correct = (confidence > 0.75) | (np.arange(300) % 2 == 0)
    threshold = abstention_threshold(confidence, correct, 0.95)
    assert 0.65 < threshold.value < 0.75
    assert not threshold.is_reached  # raised no further than is shown, which is less than the proof


def test_equally_confident_faces_are_answered_together():
    correct = np.arange(1000) % 10 > 0  # the surest 900 of 1000 equal faces are right in no order that a threshold sees
    threshold = abstention_threshold(np.full(1000, 0.9), np.sort(correct)[::-1], 0.95)
    assert (threshold.answered, threshold.is_reached, threshold.proved) == (1, False, None)


@pytest.mark.parametrize("target", [0.95, 0.999])
def test_a_target_out_of_reach_is_reported(target):
    confidence, correct = np.linspace(1, 0.5, 3000), np.arange(3000) % 30 > 0
    threshold = abstention_threshold(confidence, correct, target + 0.02 * (target < 0.99))
    assert not threshold.is_reached
    assert threshold.answered > 0.9


@pytest.mark.parametrize("faces", [6, 30, 50, 100])
def test_few_faces_do_not_make_a_good_model_unsure(faces):
    """96 of 100 genders are right and the fine-tuned model answered 96 % of them."""
    random, answered = np.random.default_rng(0), []
    for _ in range(50):
        confidence = 1 - 0.5 * random.beta(0.4, 4, faces)
        correct = random.random(faces) < confidence
        answered.append(abstention_threshold(confidence, correct, 0.95, 0.6).answered)
    assert np.mean(answered) > 0.9


@pytest.mark.parametrize("faces", [1, 6, 50])
@pytest.mark.parametrize("errors", [0, 1])
def test_temperatures_have_a_floor_of_evidence(faces, errors):
    calibration = fine_tuned(faces, errors=errors)
    assert 0.7 < calibration.age_temperature < 1.4
    assert 0.7 < calibration.gender_temperature < 2


@pytest.mark.parametrize("margin", [3, 30, 60, 400])
def test_six_faces_that_are_all_right_leave_the_temperature_at_one(margin):
    logits = np.tile([0.0, margin], (6, 1))
    assert fit_temperature(logits, np.ones(6, int), prior_faces=100) == pytest.approx(1, abs=0.05)


def test_many_faces_overrule_the_prior():
    calibration = fine_tuned(3000, sharpness=3)
    assert calibration.age_temperature == pytest.approx(3, rel=0.1)
    assert calibration.evidence["age_temperature"].weight == pytest.approx(3000 / 3100)


@pytest.mark.parametrize(("faces", "estimate_weight", "threshold_weight"), [(6, 0, 0), (99, 0, 1), (100, 1, 1)])
def test_each_figure_says_where_it_comes_from(faces, estimate_weight, threshold_weight):
    calibration = fine_tuned(faces)
    evidence, own = calibration.evidence, faces / (faces + 100)
    assert calibration.prior == "user/repo"
    assert {name: one.faces for name, one in evidence.items()} == dict.fromkeys(evidence, faces)
    for name, prior, needed, weight in (
        ("age_temperature", 1, 100, own),
        ("gender_temperature", 1, 100, own),
        ("age_estimate", "mean", 100, estimate_weight),
        ("interval_mass", 0.75, 100, own),
        ("gender_threshold", 0.9, 500, threshold_weight),
    ):
        one = evidence[name]
        assert (one.prior, one.faces_needed, one.weight) == (prior, needed, pytest.approx(weight)), name
    assert calibration.age_estimate == (evidence["age_estimate"].alone if estimate_weight else "mean")
    mass = evidence["interval_mass"]
    assert calibration.interval_mass == pytest.approx(own * mass.alone + (1 - own) * 0.75)


@pytest.mark.parametrize(
    ("faces", "level", "words"),
    [
        (6, logging.WARNING, ("those of user/repo", "shrunk, 6 % these faces", "it needs 500", "kept; prior 0.900")),
        (
            600,
            logging.INFO,
            ("600 validation faces", "fitted; prior 0.900", "95 % of the answers are correct is shown"),
        ),
    ],
)
def test_the_log_says_where_each_figure_comes_from(caplog, faces, level, words):
    with caplog.at_level(logging.INFO, logger="trainer.calibration"):
        fine_tuned(faces).log()
    [record] = caplog.records
    assert record.levelno == level
    assert [one for one in words if one not in record.getMessage()] == []


def test_the_interval_holds_on_each_set(caplog):
    """900 faces of a set with small errors, 300 with large ones, 50 with larger ones: too few to ask for the promise."""
    random = np.random.default_rng(0)
    sets = [("studio", 900, 3.0), ("street", 300, 9.0), ("ranges only", 100, 3.0), ("few", 50, 20.0)]
    errors = np.concatenate([random.normal(0, spread, faces) for _, faces, spread in sets])
    ages = random.integers(30, 80, len(errors))
    age_logits = -((np.arange(117) - (ages + errors)[:, None]) ** 2) / (2 * 5**2)
    labels = np.stack([ages, ages + 9 * np.repeat([0, 0, 1, 0], [faces for _, faces, _ in sets])], axis=1)
    genders = np.where(np.arange(len(ages)) < 1200, 0, IGNORE_INDEX)
    sizes = [(name, faces) for name, faces, _ in sets]
    calibration = fit_calibration(
        age_logits, np.tile([3.0, 0.0], (len(ages), 1)), labels, genders, AgeGenderConfig(), 0.95, None, sizes
    )
    studio, street, ranges, few = calibration.by_set
    assert 0.78 < street.interval_coverage < 0.82  # the prior of 100 faces shrinks it a little
    assert studio.interval_coverage > 0.99
    assert few.interval_coverage < 0.7
    assert (ranges.exact_ages, ranges.interval_coverage, few.gender_answered) == (0, None, None)
    assert (studio.gender_answered, studio.gender_accuracy) == (1, 1)

    with caplog.at_level(logging.INFO, logger="trainer.calibration"):
        calibration.log()
    [record] = caplog.records
    assert "street, 300 faces: the interval covers 78.7 %" in record.getMessage()
    assert "ranges only, 100 faces: the interval covers - of 0 exact ages" in record.getMessage()


def test_the_interval_is_fitted_to_ranges_where_no_age_is_exact():
    """Of a model that is too confident. The interval is rather too wide than too narrow: the model knows more of an age than
    which range it lies in.
    """
    random = np.random.default_rng(0)
    ages = random.integers(0, 90, 4000)
    logits = -((np.arange(117) - (ages + random.normal(0, 8, 4000))[:, None]) ** 2) / (2 * 5**2)
    ranges = np.stack([ages // 10 * 10, np.where(ages < 80, ages // 10 * 10 + 9, 116)], axis=1)
    unlabelled = np.full(4000, IGNORE_INDEX)
    config = AgeGenderConfig(interval_mass=0.8)
    fitted = fit_calibration(logits, np.zeros((4000, 2)), ranges, unlabelled, config, 0.95)

    def coverage(mass: float) -> float:
        low, high = age_interval(softmax(logits), mass).T
        return ((low <= ages) & (ages <= high)).mean()

    assert coverage(config.interval_mass) < 0.7
    assert 0.79 < coverage(fitted.interval_mass) < 0.9
    assert (fitted.evidence["interval_mass"].faces, fitted.evidence["age_temperature"].faces) == (4000, 0)
    assert fitted.by_set[0].interval_coverage is None  # no exact age says so


def test_without_labels_the_configuration_stays():
    config = AgeGenderConfig(gender_threshold=0.7, interval_mass=0.6)
    unknown = np.full(9, IGNORE_INDEX)
    calibration = fit_calibration(np.zeros((9, 117)), np.zeros((9, 2)), unknown, unknown, config, 0.95)
    assert (calibration.gender_threshold, calibration.interval_mass) == (0.7, 0.6)
    assert (calibration.age_temperature, calibration.gender_temperature) == (1, 1)
    assert all(one.alone is None and one.weight == 0 for one in calibration.evidence.values())


def test_fit_and_apply():
    random = np.random.default_rng(0)
    ages = random.integers(5, 90, 3000)
    age_logits = -((np.arange(117) - (ages + random.normal(0, 5, 3000))[:, None]) ** 2) / 8
    genders = random.integers(0, 2, 3000)
    gender_logits = random.normal(size=(3000, 2))
    gender_logits[np.arange(3000), genders] += 2
    unknown = np.arange(3000) % 10 == 0
    config = AgeGenderConfig(
        backbone_config=ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16, patch_size=8
        )
    )
    calibration = fit_calibration(
        age_logits, gender_logits, np.where(unknown, -100, ages), np.where(unknown, -100, genders), config, 0.97
    )
    assert calibration.age_temperature > 2  # errors of 5 years against a distribution of 2
    assert 0.5 < calibration.gender_threshold < 1
    assert calibration.gender_answered < 1

    torch.manual_seed(0)
    model = AgeGenderModel(config).eval()
    pixel_values = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = model(pixel_values)
        calibration.apply(model)
        after = model(pixel_values)
    torch.testing.assert_close(after.age_logits, before.age_logits / calibration.age_temperature)
    torch.testing.assert_close(after.gender_logits, before.gender_logits / calibration.gender_temperature)
    assert model.config.gender_threshold == calibration.gender_threshold
    assert model.config.interval_mass == calibration.interval_mass
