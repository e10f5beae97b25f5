"""dlib's face recognition network becomes a backbone that computes the same, and says what is wrong with other files."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scripts.import_dlib import DEPTHS, RGB_MEAN, WIDTHS, DlibError, main, make_backbone
from trainer.build_model import build_model
from trainer.imported_backbone import measure_batch_norms
from trainer.model_arguments import ModelArguments


SIDE = 112  # of the pictures: two of the four halvings are of an even side
Layer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # filters (out, in, H, W), their bias, scale and shift


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    """Random weights of the network's shapes, from the picture to the features."""
    random = np.random.default_rng(0)

    def layer(before: int, after: int, side: int) -> Layer:
        filters = random.normal(size=(after, before, side, side)) * (2 / (before * side * side)) ** 0.5
        others = random.normal(size=after) / 10, random.uniform(0.2, 0.5, after), random.uniform(-0.1, 0.1, after)
        return tuple(values.astype(np.float32) for values in (filters, *others))  # type: ignore[return-value]

    made = [layer(3, WIDTHS[0], 7)]
    widths = [width for width, depth in zip(WIDTHS, DEPTHS, strict=True) for _ in range(depth)]
    for before, after in pairwise([WIDTHS[0], *widths]):
        made += [layer(before, after, 3), layer(after, after, 3)]
    return made


def number(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8 or 1, "little")
    return bytes([len(content)]) + content


def tensor(*parts: np.ndarray) -> bytes:
    values = np.concatenate([part.ravel() for part in parts])
    return b"".join(number(size) for size in (2, len(values), 1, 1, 1)) + values.astype("<f4").tobytes()


@pytest.fixture(scope="module")
def content(layers) -> bytes:
    """The same as dlib writes it, with what else it says of a layer."""
    written = b"\x01\x01\x01\x0dloss_metric_2\x01\x15input_rgb_image_sized"
    for filters, bias, scale, shift in layers:
        rest = b"".join(number(size) for size in filters.shape)
        written += b"\x01\x05con_4" + tensor(filters, bias) + rest + b"\x01\x07affine_" + tensor(scale, shift) + rest
        written += b"\x01\x05relu_"
    return written + b"\x01\x04fc_2"


def reference_features(layers: list[Layer], images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) RGB in 0..1 -> (B, 256): dlib's layers, which pad a map only where its size stays, and add what is missing
    of a smaller one as zeros."""
    remaining = iter(layers)

    def convolve(x: torch.Tensor, stride: int) -> torch.Tensor:
        filters, bias, scale, shift = (torch.from_numpy(values) for values in next(remaining))
        x = F.conv2d(x, filters, bias, stride=stride, padding=1 if stride == 1 else 0)
        return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    x = convolve((images * 255 - torch.tensor(RGB_MEAN).view(3, 1, 1)) / 256, 2)
    x = F.max_pool2d(x.relu(), 3, stride=2)
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            shortcut = F.avg_pool2d(x, 2) if stride == 2 else x
            changed = convolve(convolve(x, stride).relu(), 1)
            x = torch.zeros(torch.maximum(torch.tensor(shortcut.shape), torch.tensor(changed.shape)).tolist())
            for part in (shortcut, changed):
                x[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
            x = x.relu()
    return x.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_backbone_computes_what_the_layers_do(content, layers, images):
    backbone = make_backbone(content)
    expected = reference_features(layers, images)
    torch.testing.assert_close(backbone(images * 2 - 1).pooler_output.flatten(1), expected, rtol=1e-3, atol=1e-3)
    measure_batch_norms(backbone, images * 2 - 1, batch_size=4)
    torch.testing.assert_close(backbone(images * 2 - 1).pooler_output.flatten(1), expected, rtol=1e-3, atol=1e-3)


def test_the_folder_is_a_backbone_of_a_recipe(content, layers, faces, images, tmp_path):
    (tmp_path / "network.dat").write_bytes(content)
    folder = tmp_path / "backbone"
    dataset = ["--dataset", str(faces)]
    main(["--network", f"{tmp_path}/network.dat", "--output_dir", str(folder), "--image_size", str(SIDE), *dataset])
    model, processor = build_model(ModelArguments(backbone=str(folder), image_size=SIDE))
    pixels = (images.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    with torch.no_grad():
        features = model.eval().backbone(processor(list(pixels), return_tensors="pt")["pixel_values"]).last_hidden_state
    expected = reference_features(layers, torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(features.mean(dim=(2, 3)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "its layer 1, con_4, is missing"),
        (lambda content: content.replace(b"affine_", b"bn_con_"), "its layer 2, affine_, is missing"),
        (lambda content: content[: len(content) // 2], "ends or is damaged inside layer"),
        (lambda content: content[: content.index(b"con_4") + 6], "ends or is damaged inside layer 1, con_4"),
        (
            lambda content: content[content.index(b"con_4", 2000) - 2 :],
            r"Convolution 1: expected 4736 parameters, got 9248",
        ),
    ],
)
def test_files_that_are_another_network(content, damage, message):
    with pytest.raises(DlibError, match=message):
        make_backbone(damage(content))


def test_a_file_that_is_not_there(faces, tmp_path: Path):
    argv = ["--network", f"{tmp_path}/none.dat", "--output_dir", f"{tmp_path}/out", "--dataset", str(faces)]
    with pytest.raises(DlibError, match=r"none\.dat cannot be read: No such file or directory"):
        main(argv)
