"""A pretrained backbone, or an ONNX file, that is damaged or hostile is refused in one line, as a whole model folder is."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import ViTConfig, ViTModel

from model.exported_age_gender import AgeGenderOnnxModel
from model.face_detection import YUNET_FILE
from model.model_files import ModelFileError, ModelWeightsError, load_image_processor
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.model.test_backbones import small_config
from tests.support.damaged_folders import changed, weights


@pytest.fixture
def folder(saved_tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_tiny_model, tmp_path / "model"))


BACKBONE_DAMAGES = {
    "empty weights": (lambda _: {}, "are missing, such as embeddings"),
    "a weight is NaN": (
        lambda all: {name: one.fill_(torch.nan) if name == "layernorm.bias" else one for name, one in all.items()},
        "1 weights of .* are NaN or Inf, such as backbone.layernorm.bias",
    ),
}


BACKBONE_CONFIGS = {
    "800 million weights beside a small file": (
        {"hidden_size": 8192, "intermediate_size": 8192, "num_attention_heads": 8},
        r"it describes a network of 8[\d,]+ parameters, and their files have [\d,]+ bytes",
    ),
    "4,096 layers": ({"num_hidden_layers": 4096}, "vit cannot be the backbone: it has more than 3,000 layers"),
    "kernels from the Hub": ({"attn_implementation": "somebody/kernel"}, "which may fetch code"),
    "quantisation": ({"quantization_config": {"quant_method": "gptq"}}, "not allowed: remove it"),
    "code of its own": (
        {"model_type": "new", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
        "trust_remote_code",  # and nobody is asked on the terminal
    ),
}


@pytest.mark.parametrize(("values", "message"), BACKBONE_CONFIGS.values(), ids=BACKBONE_CONFIGS)
def test_a_pretrained_backbone_with_a_hostile_configuration(values: dict, message: str, tmp_path: Path):
    ViTModel(ViTConfig(**small_config("vit").to_dict())).save_pretrained(tmp_path)
    changed(**values)(tmp_path)
    with pytest.raises(ValueError, match=message):
        AgeGenderModel.from_backbone(str(tmp_path), image_size=32)


@pytest.mark.parametrize(("change", "message"), BACKBONE_DAMAGES.values(), ids=BACKBONE_DAMAGES)
def test_a_pretrained_backbone_without_its_weights(change, message: str, tmp_path: Path):
    ViTModel(ViTConfig(**small_config("vit").to_dict())).save_pretrained(tmp_path)
    weights(change)(tmp_path)
    with pytest.raises(ModelWeightsError, match=message):
        AgeGenderModel.from_backbone(str(tmp_path), image_size=32)


def test_an_onnx_file_of_something_else(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x03" * 100)
    with pytest.raises(ModelFileError, match="cannot be read as an ONNX file"):
        AgeGenderOnnxModel(tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"that scripts.export_onnx wrote, with age_logits.* has "):
        AgeGenderOnnxModel(Path(__file__).parents[2] / "model" / YUNET_FILE)


ONNX_ANSWERS = {
    "other years": ((1, 10), (1, 2), 0.0, r"Expected 117 finite age_logits of .*got \(1, 10\)"),
    "other genders": ((1, 117), (1, 3), 0.0, r"Expected 2 finite gender_logits of .*got \(1, 3\)"),
    "two rows for one": ((2, 117), (1, 2), 0.0, r"got \(2, 117\)"),
    "NaN": ((1, 117), (1, 2), float("nan"), "Expected 117 finite age_logits of .*got NaN or Inf"),
    "other crops": ((1, 117), (1, 2), 0.0, "takes no crop of 32 x 32"),
}


@pytest.mark.parametrize(("ages", "genders", "value", "message"), ONNX_ANSWERS.values(), ids=ONNX_ANSWERS)
def test_an_onnx_file_of_another_model(ages: tuple, genders: tuple, value: float, message: str, folder: Path):
    shapes = {"age_logits": ages, "age_range_logits": (1, 9), "gender_logits": genders}
    side = 16 if "crop" in message else 32
    crop = onnx.helper.make_tensor_value_info("pixel_values", onnx.TensorProto.FLOAT, [1, 3, side, side])
    constants = [numpy_helper.from_array(np.full(shape, value, np.float32), name) for name, shape in shapes.items()]
    nodes = [onnx.helper.make_node("Constant", [], [one.name], value=one) for one in constants]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes.items()]
    graph = onnx.helper.make_graph(nodes, "another", [crop], outputs)
    versions = {"opset_imports": [onnx.helper.make_opsetid("", 18)], "ir_version": 9}
    onnx.save(onnx.helper.make_model(graph, **versions), folder / "model.onnx")
    model = AgeGenderModel.from_pretrained(folder)
    with pytest.raises(ModelFileError, match=message):
        AgeGenderPipeline(model=model, image_processor=load_image_processor(folder), onnx_file="model.onnx")
