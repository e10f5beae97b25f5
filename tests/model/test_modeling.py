"""The two-head model: its outputs, its losses, its backbones, and a save and load that changes nothing."""

import math
import os

import pytest
import torch
from transformers import (
    AutoModel,
    ConvNextConfig,
    EfficientNetConfig,
    MobileNetV1Config,
    MobileViTConfig,
    ResNetConfig,
    ViTConfig,
)

from model.configuration_age_gender import AgeGenderConfig
from model.losses_age_gender import age_loss, class_loss
from model.modeling_age_gender import AgeGenderModel


VIT = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16
)
BACKBONES = {
    "vit": VIT,
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "efficientnet": EfficientNetConfig(width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=128),
    "mobilevit": MobileViTConfig(hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16], image_size=32),
}


def make_model(backbone="vit", **values) -> AgeGenderModel:
    torch.manual_seed(0)
    return AgeGenderModel(AgeGenderConfig(backbone_config=BACKBONES[backbone], image_size=32, **values)).eval()


@pytest.fixture
def pixel_values():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_mobilenet_v1_has_a_width_a_pooling_and_statistics_that_last(pixel_values):
    """Its configuration names no width, without a pooling layer it pools nothing, and its momentum is TensorFlow's."""
    config = AgeGenderConfig(backbone_config=MobileNetV1Config(depth_multiplier=0.25), image_size=32)
    model = AgeGenderModel(config).train()
    assert model.age_head.in_features == 256
    norm = model.backbone.conv_stem.normalization
    before = norm.running_var.clone()
    model(pixel_values, torch.tensor([3, 40, -100]), torch.tensor([0, 1, 1])).loss.backward()
    assert model.backbone.conv_stem.convolution.weight.grad is not None
    assert (norm.running_var - before).abs().max() < 0.02  # one batch moves them by a hundredth


def test_output_shapes(pixel_values):
    outputs = make_model(age_ranges=[[0, 17], [18, 116]])(pixel_values)
    assert outputs.loss is None
    assert outputs.age_logits.shape == (3, 117)
    assert outputs.age_range_logits.shape == (3, 2)
    assert outputs.gender_logits.shape == (3, 2)


def test_ranges_are_sums_of_years(pixel_values):
    outputs = make_model()(pixel_values)
    years = outputs.age_logits.softmax(dim=1)
    expected = torch.stack([years[:, low : high + 1].sum(dim=1) for low, high in AgeGenderConfig().age_ranges], dim=1)
    torch.testing.assert_close(outputs.age_range_logits.softmax(dim=1), expected)


def test_other_ranges_need_no_training(pixel_values, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    rebinned = AgeGenderModel.from_pretrained(tmp_path, age_ranges=[[0, 59], [60, 116]])
    assert rebinned.config.id2label == {0: "0-59", 1: "60+"}
    assert torch.equal(rebinned(pixel_values).age_logits, model(pixel_values).age_logits)
    with pytest.raises(ValueError, match="60-69 is in no range"):
        AgeGenderModel.from_pretrained(tmp_path, age_ranges=[[0, 59], [70, 116]])


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_saved_weights_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        make_model().save_pretrained(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes["model.safetensors"] == 0o666 & ~umask
    assert set(modes.values()) == {0o666 & ~umask}  # as all other files


def test_convolutional_stem_gives_one_token_a_patch(pixel_values):
    model = make_model(stem_channels=[4, 8, 12, 16])
    assert model.backbone(pixel_values).last_hidden_state.shape == (3, 5, 32)  # 2 x 2 patches and the class token
    assert model(pixel_values.bfloat16().float()).age_logits.isfinite().all()


def test_attention_maps_are_given_on_request(pixel_values):
    model = make_model(attn_implementation="eager")
    attentions = model(pixel_values, output_attentions=True).attentions
    assert [attention.shape for attention in attentions] == [(3, 2, 5, 5)] * 2


def test_a_crop_may_differ_from_what_the_backbone_was_made_for():
    model = make_model()
    model.config.image_size = 48
    assert model(torch.zeros(1, 3, 48, 48)).age_logits.shape == (1, 117)
    assert model(torch.zeros(1, 3, 32, 32)).age_logits.shape == (1, 117)


def test_flip_test_time_augmentation_averages_both_logits(pixel_values):
    model = make_model()
    alone, flipped = model(pixel_values), model(pixel_values.flip(-1))
    model.config.flip_tta = True
    both = model(pixel_values, output_hidden_states=True)
    for name in ("age_logits", "gender_logits"):
        torch.testing.assert_close(both[name], (alone[name] + flipped[name]) / 2)
    assert [states.shape for states in both.hidden_states] == [(3, 5, 32)] * 3
    training = model.train()(pixel_values)  # there the transforms flip crops at random
    torch.testing.assert_close(training.age_logits, alone.age_logits)


def test_from_backbone_takes_the_pretrained_weights(tmp_path, pixel_values):
    torch.manual_seed(1)
    pretrained = AutoModel.from_config(VIT)  # with the pooling layer that this model leaves out
    pretrained.save_pretrained(tmp_path)
    model = AgeGenderModel.from_backbone(str(tmp_path), image_size=32).eval()
    with torch.no_grad():
        expected = pretrained.eval()(pixel_values).last_hidden_state
        torch.testing.assert_close(model.backbone(pixel_values).last_hidden_state, expected)


@pytest.mark.parametrize(
    ("age_labels", "loss_when_right", "loss_when_wrong"),
    [
        ([5], 0, 100),  # all the probability is on year 5, or on year 45
        ([[5, 5]], 0, 100),
        ([[3, 9]], 0, 100 - math.log(7)),  # seven years share what is left
        ([-100], 0, 0),
        ([[-100, -100]], 0, 0),
    ],
)
def test_age_loss_of_a_certain_answer(age_labels, loss_when_right, loss_when_wrong):
    logits = torch.full((1, 117), -50.0)
    logits[0, 5] = 50.0
    config, labels = AgeGenderConfig(age_sigma_years=0.1), torch.tensor(age_labels)
    assert age_loss(logits, labels, config).item() == pytest.approx(loss_when_right, abs=1e-4)
    assert age_loss(logits.roll(40, dims=1), labels, config).item() == pytest.approx(loss_when_wrong, abs=1e-4)


def test_unknown_labels_do_not_change_the_loss(pixel_values):
    model = make_model()
    known = model(pixel_values[:2], torch.tensor([30, 60]), torch.tensor([0, 1]))
    padded = model(pixel_values, torch.tensor([30, 60, -100]), torch.tensor([0, 1, -100]))
    torch.testing.assert_close(padded.loss, known.loss)


def test_labels_of_one_head_give_its_loss(pixel_values):
    model, ages, genders = make_model(), torch.tensor([3, 40, 50]), torch.tensor([0, 1, 1])
    both = model(pixel_values, ages, genders)
    of_ages = model(pixel_values, age_labels=ages)
    assert torch.equal(of_ages.loss, both.age_loss)
    assert of_ages.gender_loss is None
    model.config.gender_loss_weight = 0.5
    of_genders = model(pixel_values, gender_labels=genders)
    torch.testing.assert_close(of_genders.loss, 0.5 * both.gender_loss)
    assert of_genders.age_loss is None


def test_a_batch_without_labels_has_a_loss_that_can_be_stepped(pixel_values):
    model = make_model().train()
    outputs = model(pixel_values, torch.full((3,), -100), torch.full((3,), -100))
    outputs.loss.backward()
    assert outputs.loss.item() == 0
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_age_weights_and_range_loss():
    logits = torch.randn(2, 117, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 80])
    plain = AgeGenderConfig()
    first, second = (age_loss(logits[i : i + 1], labels[i : i + 1], plain) for i in range(2))
    weights = [3.0] * 50 + [1.0] * 67
    weighted = age_loss(logits, labels, AgeGenderConfig(age_weights=weights))
    torch.testing.assert_close(weighted, (3 * first + second) / 4)
    assert age_loss(logits, labels, AgeGenderConfig(range_loss_weight=1.0)) > age_loss(logits, labels, plain)


def test_a_label_of_years_in_two_ranges_has_no_range_loss():
    logits = torch.randn(1, 117, generator=torch.Generator().manual_seed(0))
    ranges = [[0, 24], [25, 49], [50, 74], [75, 99], [100, 116]]
    plain, ranged = AgeGenderConfig(age_ranges=ranges), AgeGenderConfig(age_ranges=ranges, range_loss_weight=1.0)
    for low, high, is_one_range in ((20, 29, False), (70, 116, False), (30, 39, True)):
        labels = torch.tensor([[low, high]])
        extra = age_loss(logits, labels, ranged) - age_loss(logits, labels, plain)
        assert (extra.item() > 0.1) == is_one_range


def test_the_years_of_a_labelled_range_become_equally_likely_on_request():
    """And those of a range without an end rarer by the year."""
    logits = torch.randn(1, 117, generator=torch.Generator().manual_seed(0))
    plain, even = AgeGenderConfig(), AgeGenderConfig(range_uniformity_weight=1.0)

    def extra(label: tuple[int, int], logits: torch.Tensor) -> float:
        return (age_loss(logits, torch.tensor([label]), even) - age_loss(logits, torch.tensor([label]), plain)).item()

    for label in ((20, 29), (70, 116)):
        assert extra(label, logits) > 0.1
    assert extra((30, 30), logits) == pytest.approx(0, abs=1e-6)
    logits[:, 20:30] = 3.0
    assert extra((20, 29), logits) == pytest.approx(0, abs=1e-6)
    logits[:, 70:] = math.log(0.915) * torch.arange(47)
    assert extra((70, 116), logits) == pytest.approx(0, abs=1e-6)


def test_gender_label_smoothing_raises_the_floor():
    logits, labels = torch.tensor([[20.0, -20.0]]), torch.tensor([0])
    assert class_loss(logits, labels, 0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert class_loss(logits, labels, 0.1).item() > 1
