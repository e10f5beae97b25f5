"""A model folder that is damaged, foreign or hostile is refused in one line: no traceback, no random weights, no code."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from demo.about import card_markdown
from demo.serving import ModelNotServable, find_model
from demo.settings import ModelChoice
from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model.face_detection import YUNET_FILE
from model.model_files import ModelFileError, ModelWeightsError, load_image_processor
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.push import ModelFolderError, files_to_push
from scoring.run import ScoringOptions, load_scorer
from tests.model.test_backbones import small_config
from tests.support.damaged_folders import Damage, by_link, changed, cut, shards_elsewhere, text, weights
from trainer.distillation.teachers import Teacher
from trainer.recipe import RecipeError


@pytest.fixture
def folder(saved_tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_tiny_model, tmp_path / "model"))


PROCESSOR = "preprocessor_config.json"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "empty weights": (weights(lambda _: {}), "do not fit .* are missing, such as age_head.bias"),
    "weights of another network": (weights(lambda _: {"fc.weight": torch.zeros(2, 2)}), "are missing, such as"),
    "half the weights": (
        weights(lambda all: {name: one for name, one in all.items() if "head" not in name}),
        "4 are missing, such as age_head.bias",
    ),
    "more weights": (
        weights(lambda all: all | {"race_head.weight": torch.zeros(5, 32)}),
        "1 are not of this network, such as race_head.weight",
    ),
    "weights of another shape": (
        weights(lambda all: all | {"gender_head.bias": torch.zeros(3)}),
        r"1 have another shape, such as gender_head.bias \[3\] for \[2\]",
    ),
    "a weight is NaN": (
        weights(lambda all: all | {"gender_head.bias": torch.tensor([0.0, torch.nan])}),
        "1 are NaN or Inf, such as gender_head.bias",
    ),
    "a weight is Inf": (
        weights(lambda all: all | {"gender_head.bias": torch.tensor([0.0, torch.inf])}),
        "1 are NaN or Inf",
    ),
    "cut weights": (cut, "cannot be loaded"),
    "a pointer of Git LFS": (
        text("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
        "cannot be loaded",
    ),
    "a shard list without shards": (
        lambda folder: (
            (folder / "model.safetensors").rename(folder / "other.safetensors"),
            text("model.safetensors.index.json", '{"metadata": {}, "weight_map": {"a": "no.safetensors"}}')(folder),
        ),
        "cannot be loaded",
    ),
    "config.json is no JSON": (text("config.json", "{'model_type': 1"), "not readable|cannot be read"),
    "config.json is a list": (text("config.json", "[]"), "names the type None|it holds a list"),
    "config.json of 2 MB": (
        text("config.json", '{"model_type": "age_gender"}' + " " * 2_000_000),
        "1,000,000 are read",
    ),
    "config.json nested deeply": (text("config.json", "[" * 200_000), "not readable|cannot be read"),
    "max_age is a word": (changed(max_age="old"), "describes no age-and-gender model: .*max_age"),
    "max_age of 10^9": (changed(max_age=10**9), "'max_age' of config.json is 1,000,000,000; at most 1,000,000"),
    "max_age of 5,000": (changed(max_age=5000, age_ranges=[]), "max_age from 1 to 200; got 5,000"),
    "a crop of 100,000 pixels": (changed(image_size=100_000), "image_size from 8 to 1,024; got 100,000"),
    "a million genders": (changed(gender_names=["x"] * 20_000), "20,000 entries; at most 10,000"),
    "a gender twice": (changed(gender_names=["x", "x"]), "different gender_names"),
    "a threshold of NaN": (changed(gender_threshold=float("nan")), "gender_threshold from 0 to 1"),
    "landmarks are missing": (changed(landmarks_xy=[[0.3, 0.3]]), "5 x 2 finite numbers in landmarks_xy"),
    "ranges leave a gap": (changed(age_ranges=[[0, 10], [12, 116]]), "11 is in no range"),
    "a network of no known type": (
        changed(backbone_config={"model_type": "none"}),
        "describes no age-and-gender model",
    ),
    "a million layers": (
        changed(backbone_config={"num_hidden_layers": 10**6}),
        "'num_hidden_layers' of 'backbone_config' of config.json is 1,000,000; at most 4,096",
    ),
    "4,096 layers": (
        changed(backbone_config={"num_hidden_layers": 4096}),
        "vit cannot be the backbone: it has more than 3,000 layers and parts of layers",
    ),
    "a billion weights beside a small file": (
        changed(backbone_config={"hidden_size": 8192, "intermediate_size": 16384, "num_attention_heads": 8}),
        r"it describes a network of 1,[\d,]+ parameters, and their files have [\d,]+ bytes",
    ),
    "shards of another folder": (shards_elsewhere, "other.safetensors lies outside the folder"),
    "a configuration by a link": (
        by_link("config.json"),
        "config.json of .* is a link to a file outside that folder",
    ),
    "preprocessing by a link": (
        by_link(PROCESSOR),
        "preprocessor_config.json of .* is a link to a file outside that folder",
    ),
    "weights by a link": (
        by_link("model.safetensors"),
        "model.safetensors lies outside the folder",
    ),
    "a network of 400 billion weights": (
        changed(backbone_config={"hidden_size": 500_000, "intermediate_size": 500_000, "num_attention_heads": 2}),
        "vit cannot be the backbone: it has more than 2,000,000,000 parameters",
    ),
    "kernels from the Hub": (
        changed(attn_implementation="kernels-community/flash-attn2"),
        "'attn_implementation' of config.json is 'kernels-community/flash-attn2', which may fetch code",
    ),
    "kernels from the Hub, by another name": (
        changed(backbone_config={"_attn_implementation": "somebody/kernel@v1:layer"}),
        "'_attn_implementation' of 'backbone_config' of config.json is 'somebody/kernel@v1:layer', which may fetch code",
    ),
    "flash attention, which is fetched": (changed(attn_implementation="flash_attention_2"), "which may fetch code"),
    "quantisation": (
        changed(quantization_config=["gptq"]),
        "'quantization_config' of config.json .* not allowed",
    ),
    "other weights by name": (changed(transformers_weights="../other.safetensors"), "not allowed"),
    "preprocessing is no JSON": (text(PROCESSOR, "{"), "preprocessor_config.json of .* cannot be read"),
    "preprocessing is a list": (text(PROCESSOR, "[]"), "preprocessor_config.json of .* cannot be read"),
    "preprocessing by code": (
        text(PROCESSOR, '{"auto_map": {"AutoImageProcessor": "code.Processor"}, "image_processor_type": "Processor"}'),
        "preprocessor_config.json of .* cannot be read",
    ),
    "a mean of two channels": (changed(PROCESSOR, image_mean=[0.5, 0.5]), "three finite numbers each as image_mean"),
    "a deviation of 0": (changed(PROCESSOR, image_std=[0.5, 0.5, 0.0]), "three finite numbers each"),
    "crops of a gigapixel": (
        changed(PROCESSOR, do_center_crop=True, crop_size=[40_000, 40_000]),
        "Expected no do_center_crop",
    ),
    "damaged YuNet": (text(YUNET_FILE, b"\x08\x03" * 100), f"{YUNET_FILE} is not YuNet's file"),
}


@pytest.mark.filterwarnings("ignore")  # transformers' own, about what it is asked to read
@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_the_demo_does_not_serve_it(folder: Path, damage: Damage, message: str):
    damage(folder)
    with pytest.raises(ModelNotServable, match=message) as raised:
        _ = find_model(ModelChoice(str(folder), str(folder), None)).pipeline
    assert len(str(raised.value)) < 800


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DAMAGES)
def test_the_classes_do_not_load_it(folder: Path, name: str):
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(AgeGenderError, match=message) as raised:
        AgeGenderPipeline(model=AgeGenderModel.from_pretrained(folder), image_processor=load_image_processor(folder))
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ModelWeightsError if "do not fit" in str(raised.value) else AgeGenderError)


def test_predict_and_teachers_do_not_load_it(folder: Path):
    DAMAGES["empty weights"][0](folder)
    with pytest.raises(ModelWeightsError, match="do not fit its configuration"):
        load_scorer(ScoringOptions(inputs=["photos"], model=str(folder)))
    for content in ("[]", "{"):
        (folder / "config.json").write_text(content)
        with pytest.raises(RecipeError, match="teachers: no model of this kind at"):
            Teacher.load(str(folder), AgeGenderConfig(), flip_tta=False, device=torch.device("cpu"), bf16=False)


def test_what_the_caller_chooses_is_allowed(folder: Path):
    """It is the file that may not choose it."""
    model = AgeGenderModel.from_pretrained(folder, attn_implementation="eager")
    assert model.backbone.config._attn_implementation == "eager"
    assert AgeGenderConfig.from_pretrained(folder, attn_implementation="flash_attention_2") is not None


def test_unused_parameters_stay_frozen_when_a_model_is_loaded(tmp_path: Path):
    """DistributedDataParallel refuses parameters that get no gradient."""
    model = AgeGenderModel(AgeGenderConfig(backbone_config=small_config("dinov2"), image_size=32))
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert frozen == {"backbone.embeddings.mask_token"}
    model.save_pretrained(tmp_path)
    loaded = AgeGenderModel.from_pretrained(tmp_path)
    assert {name for name, one in loaded.named_parameters() if not one.requires_grad} == frozen


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_out_of_the_folder_publish_nothing(folder: Path, tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    for name in ("README.md", "figures/secret.png", "requirements.txt", PROCESSOR):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        os.symlink(secret, folder / name)
    (folder / "handler.py").write_text("")
    with pytest.raises(ModelFolderError) as raised:
        files_to_push(folder)
    for name in ("figures/secret.png", "requirements.txt", PROCESSOR):
        assert f"{name} is a link to a file outside the folder" in str(raised.value)
    served = find_model(ModelChoice("model", str(folder), None))
    assert "secret" not in card_markdown(served)
    (folder / "README.md").unlink()
    (folder / "README.md").write_text("# Model\n\n![figure](figures/secret.png)\n")
    assert "data:" not in card_markdown(served)
    (folder / "figures" / "real.png").write_bytes(b"png")
    os.symlink("real.png", folder / "figures" / "inside.png")
    (folder / "README.md").write_text("# Model\n\n![figure](figures/inside.png)\n")
    assert "data:image/png;base64," in card_markdown(served)


def test_a_link_is_not_copied_into_a_saved_folder(folder: Path, tmp_path: Path):
    model = AgeGenderModel.from_pretrained(folder)
    (tmp_path / "secret.json").write_text("the secret")
    (folder / PROCESSOR).unlink()
    os.symlink(tmp_path / "secret.json", folder / PROCESSOR)
    with pytest.raises(ModelFileError, match="link to a file outside that folder"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / PROCESSOR).exists()
