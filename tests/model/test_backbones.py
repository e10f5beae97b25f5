"""docs/backbones.md says what happens with every vision network of transformers: each of its rows is tried here."""

import importlib.util
import json
import logging
import re

import pytest
import torch
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPModel,
    ResNetConfig,
    SiglipConfig,
    SiglipModel,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)
from transformers.modeling_outputs import BaseModelOutput

from model.backbones import BackboneError, pool_features, try_backbone
from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model.exported_age_gender import AgeGenderOnnxModel
from model.modeling_age_gender import AgeGenderModel
from scripts.maintenance.backbones import COMMON_SIZES, PAGE, picture_kinds, row, side, small_config
from trainer.build_model import build_model, check_model
from trainer.model_arguments import ModelArguments
from trainer.onnx.export import write_fp32


UPDATE = "run `python -m scripts.maintenance.backbones`"
ROWS = {match[2]: match for match in re.finditer(r"^(\| `(\S+)` \| (\w+) \| (.+) \|)$", PAGE.read_text(), re.MULTILINE)}
WORKING = [kind for kind, match in ROWS.items() if match[4].startswith("works")]
REFUSED = [kind for kind in ROWS if kind not in WORKING]
NEEDS_TIMM = [kind for kind, match in ROWS.items() if "requires the timm library" in match[4]]


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads take longer for networks as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(kind: str) -> AgeGenderModel:
    torch.manual_seed(0)
    return AgeGenderModel(AgeGenderConfig(backbone_config=small_config(kind), image_size=side(kind)))


def random_pictures(kind: str) -> torch.Tensor:
    return torch.randn(3, 3, side(kind), side(kind), generator=torch.Generator().manual_seed(0))


def test_every_vision_network_of_transformers_has_its_row():
    assert {kind: match[3] for kind, match in ROWS.items()} == picture_kinds(), UPDATE


@pytest.mark.filterwarnings("ignore")  # of networks that nobody here has chosen
@pytest.mark.parametrize("kind", REFUSED)
def test_a_row_says_why_a_network_is_refused(kind):
    if kind in NEEDS_TIMM and importlib.util.find_spec("timm"):
        pytest.skip("timm is installed here")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    assert row(kind, ROWS[kind][3]) == ROWS[kind][1], UPDATE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WORKING)
def test_a_backbone_trains_a_step_saves_loads_and_always_answers_alike(kind, tmp_path):
    model, pictures = make_model(kind).train(), random_pictures(kind)
    used = model.config.backbone_config.model_type
    assert ROWS[kind][4] == ("works" if used == kind else f"works, as its `{used}`"), UPDATE
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model(pictures, torch.tensor([3, 40, -100]), torch.tensor([0, 1, 1])).loss.backward()
    # DistributedDataParallel refuses parameters that are to be trained and never used
    assert [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None] == []
    optimizer.step()
    model.eval().save_pretrained(tmp_path)
    loaded = AgeGenderModel.from_pretrained(tmp_path)
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    with torch.inference_mode():
        first, again, of_loaded = model(pictures), model(pictures), loaded(pictures)
    assert first.age_logits.isfinite().all()
    assert torch.equal(first.age_logits, again.age_logits)
    torch.testing.assert_close(of_loaded.age_logits, first.age_logits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "has_class_token"),
    [
        *((kind, True) for kind in ("clip", "deit", "dinov2_with_registers", "dinov3_convnext", "pvt", "radio", "vit")),
        # tokens of places only, a class token that only its unused head has, and maps
        *((kind, False) for kind in ("siglip", "swin", "ijepa", "aimv2", "cvt", "resnet")),
    ],
)
def test_pooling_cls_needs_a_class_token(kind, has_class_token):
    config = AgeGenderConfig(backbone_config=small_config(kind), image_size=side(kind), pooling="cls")
    with torch.device("meta"):
        if has_class_token:
            AgeGenderModel(config)
        else:
            with pytest.raises(AgeGenderError, match="which has no class token; got cls"):
                AgeGenderModel(config)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["clip", "dinov2", "mobilenet_v1", "segformer", "swin"])
def test_a_backbone_exports_to_onnx(kind, tmp_path):
    model, pictures = make_model(kind).eval(), random_pictures(kind)
    write_fp32(model, tmp_path / "model.onnx", weights_sha256="")
    with torch.inference_mode():
        expected = model(pictures).age_logits
    torch.testing.assert_close(AgeGenderOnnxModel(tmp_path / "model.onnx")(pictures).age_logits, expected)


TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 99}


@pytest.mark.parametrize(
    ("config_class", "model_class", "tower"),
    [(CLIPConfig, CLIPModel, "clip_vision_model"), (SiglipConfig, SiglipModel, "siglip_vision_model")],
)
def test_of_a_model_of_pictures_and_texts_the_vision_tower_is_taken(config_class, model_class, tower, tmp_path):
    whole = model_class(config_class(text_config=TEXT, vision_config=small_config(tower).to_dict())).eval()
    whole.save_pretrained(tmp_path)
    model = AgeGenderModel.from_backbone(str(tmp_path), image_size=32).eval()
    assert model.config.backbone_config.model_type == tower
    pictures = random_pictures(tower)
    with torch.inference_mode():
        expected = whole.vision_model(pictures).last_hidden_state
        assert torch.equal(model.backbone(pictures).last_hidden_state, expected)


def test_a_vit_mae_masks_nothing(tmp_path):
    pretrained = ViTMAEModel(ViTMAEConfig(**COMMON_SIZES | {"mask_ratio": 0.0})).eval()
    pretrained.save_pretrained(tmp_path)
    model = AgeGenderModel.from_backbone(str(tmp_path), image_size=32).eval()
    pictures, in_order = random_pictures("vit"), torch.arange(16.0).expand(3, 16)
    with torch.inference_mode():
        expected = pretrained(pictures, noise=in_order).last_hidden_state
        torch.testing.assert_close(model.backbone(pictures).last_hidden_state, expected)


def test_half_precision_weights_become_those_of_the_heads(tmp_path):
    ViTModel(small_config("vit")).half().save_pretrained(tmp_path)
    model = AgeGenderModel.from_backbone(str(tmp_path), image_size=32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(random_pictures("vit")).age_logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "image_size", "message"),
    [
        ("bert", 32, "bert cannot be the backbone: beside a picture it needs input_ids"),
        ("siglip2", 32, "siglip2_vision_model cannot .* it needs pixel_attention_mask, spatial_shapes"),
        ("detr", 32, "detr cannot be the backbone: it answers with objects"),
        ("pixtral", 32, "pixtral cannot .* does not keep the pictures of a batch apart"),
        (
            "sam",
            48,
            r"sam_vision_model .* of 48 x 48 pixels alone, it fails: Input image size \(48\*48\) doesn't match",
        ),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_by_name(kind, image_size, message):
    with pytest.raises(BackboneError, match=message):
        AgeGenderModel(AgeGenderConfig(backbone_config=small_config(kind), image_size=image_size))


def test_a_resnet_with_the_layers_of_dlib(tmp_path):
    """They pad no map that they halve, for even and odd sides; the option is saved with the model."""
    backbone_config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic")
    backbone_config.dlib_layers = True
    config = AgeGenderConfig(backbone_config=backbone_config, image_size=72)
    model = AgeGenderModel(config).eval()
    pictures = torch.randn(2, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for side, of_map in (
            (72, 8),
            (68, 7),
            (64, 7),
        ):  # 33, 31 and 29 after the first convolution, then 16, 15 and 14
            pictures = pictures[..., :side, :side]
            assert model.backbone(pictures).last_hidden_state.shape == (2, 16, of_map, of_map)
        model.save_pretrained(tmp_path)
        loaded = AgeGenderModel.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(pictures).age_logits, model(pictures).age_logits)
    for other in (small_config("vit"), ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])):
        other.dlib_layers = True
        with pytest.raises(BackboneError, match="cannot be the backbone: dlib_layers is for a resnet of basic blocks"):
            AgeGenderModel(AgeGenderConfig(backbone_config=other, image_size=32))


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed here")
def test_without_timm_its_networks_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(text := '{"model_type": "timm_wrapper", "architecture": "resnet18"}')
    for options in ({"backbone_config": text}, {"backbone": str(tmp_path)}):
        with pytest.raises(AgeGenderError, match="requires the timm library"):
            check_model(ModelArguments(**options))


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed here")
@pytest.mark.parametrize("architecture", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"])
def test_a_network_of_timm_trains_a_step_saves_and_loads(architecture, tmp_path):
    text = json.dumps({"model_type": "timm_wrapper", "architecture": architecture})
    model, _ = build_model(ModelArguments(backbone_config=text, image_size=224))
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model.train()(pictures, torch.tensor([3, 40]), torch.tensor([0, 1])).loss.backward()
    assert [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None] == []
    model.eval().save_pretrained(tmp_path)
    with torch.inference_mode():
        expected, of_loaded = model(pictures), AgeGenderModel.from_pretrained(tmp_path)(pictures)
    torch.testing.assert_close(of_loaded.age_logits, expected.age_logits)


def test_a_map_of_channels_last_is_pooled_over_its_places():
    """As SAM 2's are."""
    maps = torch.randn(2, 4, 4, 6)
    channels_first = maps.permute(0, 3, 1, 2)
    for one in (maps, channels_first):
        pooled = pool_features(BaseModelOutput(last_hidden_state=one), "mean")
        torch.testing.assert_close(pooled, maps.mean(dim=(1, 2)))


def test_trying_a_backbone_leaves_random_numbers_as_they_are():
    config = small_config("dinov2")
    torch.manual_seed(0)
    expected = AutoModel.from_config(config).state_dict()
    torch.manual_seed(0)
    try_backbone(config, 32)
    assert all(map(torch.equal, AutoModel.from_config(config).state_dict().values(), expected.values()))
