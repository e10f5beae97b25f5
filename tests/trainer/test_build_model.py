"""From a recipe's arguments to a model: weights of rare ages, ranges, backbones."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModel,
    ConvNextImageProcessor,
    EfficientNetImageProcessor,
    MobileViTImageProcessor,
    ViTImageProcessor,
)

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel
from tests.model.test_modeling import BACKBONES
from trainer.build_model import age_class_weights, build_model, build_model_for, check_model
from trainer.model_arguments import ModelArguments, read_backbone_config
from trainer.publishing import save_model_folder
from trainer.recipe import RecipeError


TINY_VIT = (
    '{"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,'
    ' "image_size": 32, "patch_size": 16}'
)
TINY_SAM = (
    '{"model_type": "sam_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,'
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


def test_ages_of_all_sets_and_of_ranges_are_weighted():
    exact = Dataset.from_dict({"age": [5] * 10 + [40] * 30})
    ranges = {"age": [-100] * 67, "age_low": [20] * 60 + [-100] * 7, "age_high": [29] * 60 + [-100] * 7}
    args = ModelArguments(
        backbone_config=TINY_VIT, image_size=32, age_ranges=["0-17", "18+"], age_class_weights="balanced"
    )
    model, _ = build_model_for(args, [exact, Dataset.from_dict(ranges)])
    assert model.config.age_weights[0] / model.config.age_weights[116] == pytest.approx(9)


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
    with pytest.raises(ValueError, match="patches of 16 pixels; got 2 channels, which shrink a picture 4 times"):
        build_model(ModelArguments(backbone_config=TINY_VIT, image_size=32, stem_channels=[4, 8]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone_config": TINY_VIT}, None),
        ({"backbone_config": TINY_VIT, "train_resolutions": [32, 48]}, None),
        ({"backbone_config": TINY_VIT, "stem_channels": [4, 8]}, "patches of 16 pixels; got 2 channels"),
        (
            {"backbone_config": '{"model_type": "gpt2"}'},
            "gpt2 cannot be the backbone: beside a picture it needs input_ids",
        ),
        ({"backbone_config": TINY_SAM, "train_resolutions": [32, 48]}, "sam_vision_model cannot .* of 48 x 48 pixels"),
        ({"backbone_config": TINY_VIT, "pooling": "cls"}, None),
        (
            {"backbone_config": TINY_SAM, "pooling": "cls"},
            "pooling mean for sam_vision_model, which has no class token",
        ),
        ({"backbone": "/nowhere"}, "/nowhere cannot be loaded"),
        ({"finetune_from": "/nowhere"}, "no age-and-gender model at /nowhere"),
    ],
)
def test_a_model_is_checked_without_its_weights(options, message):
    args = ModelArguments(**{"image_size": 32} | options)
    if message is None:
        check_model(args)
        return
    with pytest.raises(ValueError, match=message):
        check_model(args)


def test_what_no_backbone_reads_is_refused():
    with pytest.raises(RecipeError, match=r"unknown key 'num_hidden_layer' of a vit. Did you mean 'num_hidden_layers'"):
        build_model(ModelArguments(backbone_config='{"model_type": "vit", "num_hidden_layer": 4}'))
    with pytest.raises(RecipeError, match=r"unknown key 'nonsense' of a resnet. There are depths, "):
        build_model(ModelArguments(backbone_config='{"model_type": "resnet", "nonsense": 4}'))


@pytest.mark.parametrize("backbone", [*BACKBONES, "convnextv2", "dinov2", "swin", "mobilenet_v2", "regnet"])
def test_a_whole_configuration_is_understood(backbone):
    """As it is found in a config.json on the Hub."""
    config = BACKBONES[backbone].to_dict() if backbone in BACKBONES else AutoConfig.for_model(backbone).to_dict()
    config |= {"torch_dtype": "float32", "attn_implementation": "eager", "num_labels": 3}
    assert read_backbone_config(json.dumps(config)).model_type == backbone


@pytest.mark.parametrize(
    ("backbone", "processor"),
    [
        ("vit", ViTImageProcessor),
        ("resnet", ConvNextImageProcessor),
        ("convnext", ConvNextImageProcessor),
        ("efficientnet", EfficientNetImageProcessor),
        ("mobilevit", MobileViTImageProcessor),
    ],
)
def test_a_pretrained_backbone_sees_what_it_learnt_from(tmp_path, backbone, processor):
    torch.manual_seed(0)
    pretrained = AutoModel.from_config(BACKBONES[backbone]).eval()
    pretrained.save_pretrained(tmp_path)
    own_processor = processor(do_resize=False, do_center_crop=False)
    own_processor.save_pretrained(tmp_path)
    model, image_processor = build_model(ModelArguments(backbone=str(tmp_path), image_size=32))

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels[..., 0] //= 4  # so that red and blue differ
    picture = Image.fromarray(pixels)
    expected = first_features(pretrained, own_processor(picture, return_tensors="pt"))
    assert expected.std() > 0.01
    actual = first_features(model.eval().backbone, image_processor(picture, return_tensors="pt"))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def first_features(backbone: torch.nn.Module, inputs) -> torch.Tensor:
    """What the filters that see the picture give."""
    first = next(module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d))
    features = []
    first.register_forward_hook(lambda _module, _inputs, output: features.append(output))
    with torch.inference_mode():
        backbone(**inputs)
    return features[0]


@pytest.fixture
def trained(tmp_path) -> str:
    arguments = ModelArguments(
        backbone_config=TINY_VIT, image_size=32, stem_channels=[4, 8, 8, 8], age_class_weights="sqrt"
    )
    model, processor = build_model(arguments)
    model.config.age_weights = [1.0] * 117
    save_model_folder(model, processor, tmp_path / "trained")
    return str(tmp_path / "trained")


def test_fine_tuning_a_model(trained):
    before = AgeGenderModel.from_pretrained(trained).eval()
    arguments = ModelArguments(finetune_from=trained, age_ranges=["0-17", "18+"], gender_label_smoothing=0.1).resolved()
    model, processor = build_model(arguments)
    assert arguments.image_size == processor.size["height"] == 32
    assert model.config.age_range_labels == ["0-17", "18+"]
    assert model.config.gender_label_smoothing == 0.1
    assert model.config.age_weights is None
    pictures = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(pictures).age_logits, before(pictures).age_logits, rtol=0, atol=0)


def test_a_fine_tuned_model_keeps_flip_tta_and_dropout_unless_given(tmp_path):
    arguments = ModelArguments(backbone_config=TINY_VIT, image_size=32, flip_tta=True, head_dropout=0.1)
    save_model_folder(*build_model(arguments), tmp_path / "first")
    for changes, expected in (
        ({}, (True, 0.1)),
        ({"flip_tta": False, "head_dropout": 0.0}, (False, 0.0)),
    ):
        model, _ = build_model(ModelArguments(finetune_from=str(tmp_path / "first"), **changes))
        assert (model.config.flip_tta, model.config.head_dropout) == expected
    model, _ = build_model(ModelArguments(backbone_config=TINY_VIT, image_size=32))
    assert (model.config.flip_tta, model.config.head_dropout) == (False, 0.0)


def test_fine_tuning_a_model_at_another_size(trained, tmp_path):
    model, processor = build_model(ModelArguments(finetune_from=trained, image_size=64))
    save_model_folder(model, processor, tmp_path / "larger")
    larger = AgeGenderModel.from_pretrained(tmp_path / "larger").eval()
    assert larger.backbone.embeddings.position_embeddings.shape == (1, 17, 16)
    assert larger(torch.randn(2, 3, 64, 64)).age_logits.shape == (2, 117)
    before = AgeGenderModel.from_pretrained(trained)
    torch.testing.assert_close(larger.gender_head.weight, before.gender_head.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Set one of"),
        ({"backbone": "x", "finetune_from": "y"}, "Set one of"),
        ({"finetune_from": "/nowhere"}, "no age-and-gender model at /nowhere"),
    ],
)
def test_no_model_to_train(options, message):
    with pytest.raises(RecipeError, match=message):
        ModelArguments(**options).resolved()
