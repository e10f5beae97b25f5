"""A TensorFlow.js MobileNetV1 becomes a backbone that computes the same, and says what is wrong with other files."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoImageProcessor

from scripts.import_faceres import (
    BGR_MEAN,
    FaceresError,
    main,
    make_backbone,
    read_tensors,
)
from trainer.build_model import build_model
from trainer.imported_backbone import measure_batch_norms
from trainer.model_arguments import ModelArguments


STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Random weights by the names in faceres.json."""
    random = np.random.default_rng(0)

    def normal(*shape: int, fan_in: int) -> np.ndarray:
        return (random.normal(size=shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    values = {"conv1/convolution/merged_input": normal(3, 3, 3, 32, fan_in=27) / 100}
    values["conv1_bn/batchnorm_1/sub"] = random.uniform(0, 0.5, 32).astype(np.float32)
    for block, (before, after) in enumerate(pairwise(WIDTHS), start=1):
        values[f"conv_dw_{block}/depthwise_kernel"] = normal(3, 3, before, 1, fan_in=9)
        values[f"conv_dw_{block}_bn/batchnorm_1/mul"] = random.uniform(0.5, 1.5, before).astype(np.float32)
        values[f"conv_dw_{block}_bn/batchnorm_1/sub"] = random.uniform(0, 0.5, before).astype(np.float32)
        values[f"conv_pw_{block}/convolution/merged_input"] = normal(1, 1, before, after, fan_in=before)
        values[f"conv_pw_{block}_bn/batchnorm_1/sub"] = random.uniform(0, 0.5, after).astype(np.float32)
    for name, size in (("feats", 256), ("age_pred", 100), ("gender_pred", 1)):
        width = 1024 if name == "feats" else 256
        values[f"{name}/kernel"], values[f"{name}/bias"] = normal(width, size, fan_in=width), np.zeros(size, np.float32)
    return values


@pytest.fixture(scope="module")
def faceres(tensors, tmp_path_factory) -> Path:
    """The same as a file, in half precision but for an integer."""
    folder, weights, content = tmp_path_factory.mktemp("faceres"), [], b""
    for name, values in {**tensors, "axes": np.array([1, 2], np.int32)}.items():
        entry = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
        if values.dtype == np.float32:
            entry["quantization"], values = {"dtype": "float16"}, values.astype(np.float16)
        weights.append(entry)
        content += values.tobytes()
    (folder / "faceres.bin").write_bytes(content)
    path = folder / "faceres.json"
    path.write_text(json.dumps({"weightsManifest": [{"paths": ["faceres.bin"], "weights": weights}]}))
    return path


def reference_features(tensors: dict[str, np.ndarray], images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) RGB in 0..1 -> (B, 1024), as TensorFlow computes them of pictures with a grey edge."""
    padded = F.pad(images, (0, 1, 0, 1), value=0.5)
    x = padded.flip(1) * 255 - torch.tensor(BGR_MEAN).view(3, 1, 1)

    def convolve(x: torch.Tensor, name: str, stride: int, groups: int = 1) -> torch.Tensor:
        filters = torch.from_numpy(tensors[name])
        filters = filters.permute(2, 3, 0, 1) if groups > 1 else filters.permute(3, 2, 0, 1)
        if (
            filters.shape[-1] == 3 and groups > 1
        ):  # SAME: of an even side that a stride of 2 halves, only the end is padded
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        return F.conv2d(x, filters, stride=stride, groups=groups)

    def shift(x: torch.Tensor, name: str) -> torch.Tensor:
        return (x + torch.from_numpy(tensors[f"{name}_bn/batchnorm_1/sub"]).view(-1, 1, 1)).clamp(0, 6)

    x = shift(convolve(x, "conv1/convolution/merged_input", 2), "conv1")
    for block, stride in enumerate(STRIDES, start=1):
        x = convolve(x, f"conv_dw_{block}/depthwise_kernel", stride, groups=x.shape[1])
        x = x * torch.from_numpy(tensors[f"conv_dw_{block}_bn/batchnorm_1/mul"]).view(-1, 1, 1)
        x = shift(x, f"conv_dw_{block}")
        x = shift(convolve(x, f"conv_pw_{block}/convolution/merged_input", 1), f"conv_pw_{block}")
    return x.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return images * 2 - 1


@torch.no_grad()
def test_the_backbone_computes_what_tensorflow_does(tensors, images):
    features = make_backbone(tensors)(normalised(images)).pooler_output
    torch.testing.assert_close(features, reference_features(tensors, images), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_measured_batch_norms_change_nothing_and_fit_training(tensors, images):
    backbone = make_backbone(tensors)
    before = backbone(normalised(images)).pooler_output
    measure_batch_norms(backbone, normalised(images), batch_size=4)
    torch.testing.assert_close(backbone(normalised(images)).pooler_output, before, rtol=1e-3, atol=1e-3)
    in_training = backbone.train()(normalised(images)).pooler_output
    torch.testing.assert_close(in_training, before, rtol=0.05, atol=0.05)  # the batch has about the same statistics


def test_the_folder_is_a_backbone_of_a_recipe(faceres, tensors, faces, images, tmp_path):
    argv = ["--faceres", str(faceres), "--output_dir", str(tmp_path), "--image_size", "64", "--dataset", str(faces)]
    main(argv)
    model, processor = build_model(ModelArguments(backbone=str(tmp_path), image_size=64))
    pixels = (images.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    with torch.no_grad():
        features = model.eval().backbone(processor(list(pixels), return_tensors="pt")["pixel_values"]).last_hidden_state
    expected = reference_features(tensors, torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(features.mean(dim=(2, 3)), expected, rtol=0.02, atol=0.02)  # of half precision
    assert AutoImageProcessor.from_pretrained(tmp_path).size == {"height": 64, "width": 64}


def cut(folder: Path, text: str, content: bytes) -> None:
    (folder / "faceres.json").write_text(text)
    (folder / "faceres.bin").write_bytes(content[:-100])


def padded(folder: Path, text: str, content: bytes) -> None:
    (folder / "faceres.json").write_text(text)
    (folder / "faceres.bin").write_bytes(content + b"0")


def without_weights(folder: Path, text: str, content: bytes) -> None:
    (folder / "faceres.json").write_text(text)


def of_a_layers_model(folder: Path, text: str, content: bytes) -> None:
    (folder / "faceres.json").write_text('{"format": "layers-model"}')


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder, text, content: None, "not a TensorFlow.js graph model"),
        (of_a_layers_model, "not a TensorFlow.js graph model"),
        (without_weights, "not a TensorFlow.js graph model"),
        (cut, "end inside"),
        (padded, "bytes of weights, but"),
    ],
)
def test_files_that_are_no_model(faceres, tmp_path, write, message):
    write(tmp_path, faceres.read_text(), faceres.with_suffix(".bin").read_bytes())
    with pytest.raises(FaceresError, match=message):
        read_tensors(tmp_path / "faceres.json")


def test_another_network(tensors):
    with pytest.raises(FaceresError, match="no tensor 'conv_pw_13/convolution/merged_input'"):
        make_backbone({name: values for name, values in tensors.items() if "conv_pw_13/" not in name})
    wider = tensors | {"conv1/convolution/merged_input": np.zeros((3, 3, 3, 64), np.float32)}
    with pytest.raises(FaceresError, match=r"conv1: expected filters of shape \[32, 3, 3, 3\], got \[64, 3, 3, 3\]"):
        make_backbone(wider)


def test_the_file_itself_knows_ages(shared_dir):
    path = shared_dir / "models" / "faceres.json"
    if not path.exists():
        pytest.skip(f"needs {path}")
    backbone = make_backbone(read_tensors(path))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 3_206_976
