"""From a recipe's arguments to a model: weights of rare ages, ranges, backbones."""

import numpy as np
import pytest

from model.configuration_age_gender import AgeGenderConfig
from trainer.build_model import ModelArguments, age_class_weights, build_model


TINY_VIT = (
    '{"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,'
    ' "image_size": 32, "patch_size": 16}'
)


@pytest.mark.parametrize(("kind", "ratio"), [("sqrt", 3.0), ("balanced", 9.0)])
def test_rare_ages_weigh_more(kind, ratio):
    config = AgeGenderConfig(age_ranges=[[0, 17], [18, 116]])
    ages = np.array([5] * 10 + [40] * 90 + [-100] * 7)  # unknown ages do not count
    weights = np.array(age_class_weights(ages, config, kind))
    assert weights.shape == (117,)
    assert weights[0] / weights[116] == pytest.approx(ratio)
    assert weights[ages[ages >= 0]].mean() == pytest.approx(1)


def test_build_model_from_scratch():
    arguments = ModelArguments(
        backbone_config=TINY_VIT,
        image_size=32,
        age_ranges=["0-17", "18+"],
        stem_channels=[4, 8, 8, 8],
        head_dropout=0.1,
    )
    model, processor = build_model(arguments)
    assert model.config.age_range_labels == ["0-17", "18+"]
    assert model.config.image_size == model.config.backbone_config.image_size == 32
    assert (processor.size["height"], processor.size["width"]) == (32, 32)
    assert model.dropout.p == 0.1


def test_a_stem_that_does_not_fit_the_backbone():
    with pytest.raises(
        ValueError, match="2 stem_channels shrink a picture 4 times, but the backbone expects patches of 16"
    ):
        build_model(ModelArguments(backbone_config=TINY_VIT, image_size=32, stem_channels=[4, 8]))
