"""Calibration, fitted on validation: temperature scaling, conformal intervals, abstention threshold."""

import numpy as np
import pytest
import torch
from transformers import ViTConfig

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import softmax
from model.modeling_age_gender import IGNORE_INDEX, AgeGenderModel
from trainer.calibration import abstention_threshold, fit_calibration, fit_temperature


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
    threshold, answered, reached = abstention_threshold(confidence, correct, target_accuracy=0.9)
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


def test_every_face_is_answered_when_all_predictions_are_correct():
    assert abstention_threshold(np.linspace(1, 0.6, 200), np.full(200, True), 0.95) == (0.6, 1.0, True)


def test_a_target_out_of_reach_is_reported():
    confidence, correct = np.linspace(1, 0.5, 300), np.arange(300) % 3 > 0
    _, answered, reached = abstention_threshold(confidence, correct, 0.95)
    assert not reached
    assert answered >= 0.1


def test_without_labels_the_configuration_stays():
    config = AgeGenderConfig(gender_threshold=0.7, interval_mass=0.6)
    unknown = np.full(9, IGNORE_INDEX)
    calibration = fit_calibration(np.zeros((9, 117)), np.zeros((9, 2)), unknown, unknown, config, 0.95)
    assert (calibration.gender_threshold, calibration.interval_mass) == (0.7, 0.6)
    assert (calibration.age_temperature, calibration.gender_temperature) == (1, 1)


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
