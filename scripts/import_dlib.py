"""Turn dlib's face recognition network into a backbone to fine-tune, whose terms allow any use.

    python -m scripts.import_dlib --network dlib_face_recognition_resnet_model_v1.dat --dataset FairFace-train-40k.tar.gz \\
        --align --output_dir outputs/dlib
    python -m trainer.train trainer/recipes/cc_by.yaml --backbone outputs/dlib

The result is a folder with transformers' ResNet and its preprocessing, which a recipe names as `backbone`. The file lies in
the package face_recognition_models and in https://github.com/davisking/dlib-models (CC0); it knows faces from 3 million
pictures.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, ResNetConfig, set_seed

from model.backbones import build_backbone
from model.errors import AgeGenderError
from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.imported_backbone import save_backbone
from trainer.recipe import parse_recipe


RGB_MEAN = (122.782, 117.001, 104.298)  # subtracted from 0..255, then divided by 256
GREY = 127.5  # to 0..255 from a picture that is normalised by 0.5 and 0.5
WIDTHS, DEPTHS = [32, 64, 128, 256, 256], [3, 4, 3, 3, 1]  # of each stage: channels, and blocks of two convolutions
TENSOR_VERSION = 2


@dataclass
class ImportArguments:
    """What is read, and where the backbone goes."""

    network: str = field(metadata={"help": "dlib_face_recognition_resnet_model_v1.dat."})
    output_dir: str = field(metadata={"help": "Folder for the backbone."})
    image_size: int = field(default=144, metadata={"help": "Side in pixels that the backbone will be fine-tuned at."})
    faces: int = field(
        default=512,
        metadata={"help": "Training pictures that the statistics of batch normalisation are measured on."},
    )


class DlibError(AgeGenderError):
    """The file is not the network that is expected; the message says what was found."""


def read_layers(content: bytes) -> Iterator[torch.Tensor]:
    """The parameters of each convolution and each scale and shift after it, flat, from the picture to the features.

    dlib writes a layer as its name, then a tensor: its version, four sizes, its values as float32. A number is a byte that says
    how many bytes follow, then these, the lowest first:
    https://github.com/davisking/dlib/blob/v19.24/dlib/cuda/tensor_tools.cpp and dlib/serialize.h.

    Raises:
        DlibError: the file ends inside a tensor.
    """
    start = 0
    for layer in range(2 * (1 + 2 * sum(DEPTHS))):
        name = b"affine_" if layer % 2 else b"con_4"
        found = content.find(bytes([1, len(name)]) + name, start)
        if found < 0:
            raise DlibError(
                f"Expected dlib's face recognition network, but its layer {layer + 1}, {name.decode()}, is missing."
            )
        start = found + 2 + len(name)
        sizes = []
        for _ in range(5):
            end = start + 1 + (content[start] if start < len(content) else 0)
            sizes.append(int.from_bytes(content[start + 1 : end], "little"))
            start = end
        version, *shape = sizes
        end = start + 4 * int(np.prod(shape, dtype=object))
        if version != TENSOR_VERSION or end > len(content):
            raise DlibError(
                f"The file ends or is damaged inside layer {layer + 1}, {name.decode()}: download it again."
            )
        yield torch.from_numpy(np.frombuffer(content[start:end], "<f4").copy())
        start = end


@torch.no_grad()
def make_backbone(content: bytes) -> PreTrainedModel:
    """The convolutions as transformers' ResNet, for RGB pictures that are normalised by 0.5 and 0.5.

    It computes what dlib's network does, up to the features that its embedding is made of.

    Args:
        content: of dlib_face_recognition_resnet_model_v1.dat.

    Raises:
        DlibError: it is another file.
    """
    config = ResNetConfig(embedding_size=WIDTHS[0], hidden_sizes=WIDTHS, depths=DEPTHS, layer_type="basic")
    config.dlib_layers = True  # see `build_backbone`
    backbone: Any = build_backbone(config).eval()
    parameters = read_layers(content)
    first = backbone.embedder.embedder
    blocks = [block for stage in backbone.encoder.stages for block in stage.layers]
    for index, layer in enumerate([first, *(layer for block in blocks for layer in block.layer)]):
        filters, scale_and_shift = next(parameters), next(parameters)
        weight = layer.convolution.weight
        if len(filters) != weight.numel() + len(weight) or len(scale_and_shift) != 2 * len(weight):
            expected = weight.numel() + len(weight)
            raise DlibError(f"Convolution {index + 1}: expected {expected} parameters, got {len(filters)}.")
        weight.copy_(filters[: weight.numel()].view_as(weight))
        scale, shift = scale_and_shift.view(2, -1)
        shift = shift + scale * filters[weight.numel() :]
        if layer is first:
            offset = (GREY - torch.tensor(RGB_MEAN)) / 256
            shift = shift + scale * (weight.sum(dim=(2, 3)) @ offset)
            weight.mul_(GREY / 256)
        layer.normalization.weight.copy_(scale * (1 + layer.normalization.eps) ** 0.5)
        layer.normalization.bias.copy_(shift)
    for block in blocks:
        if hasattr(block.shortcut, "convolution"):
            torch.nn.init.dirac_(block.shortcut.convolution.weight)  # the channels as they are, and zeros for new ones
            block.shortcut.normalization.weight.fill_((1 + block.shortcut.normalization.eps) ** 0.5)
    return backbone


def import_dlib(args: ImportArguments, data_args: DataArguments) -> None:
    """Write the backbone and its preprocessing.

    Raises:
        DlibError: the file cannot be read or is not that network.
    """
    set_seed(0)
    path = Path(args.network).expanduser()
    try:
        backbone = make_backbone(path.read_bytes())
    except OSError as error:
        raise DlibError(
            f"{path} cannot be read: {error.strerror}. Expected dlib_face_recognition_resnet_model_v1.dat."
        ) from error
    save_backbone(backbone, args.output_dir, data_args, args.image_size, args.faces)


def main(argv: Sequence[str]) -> None:
    import_dlib(*parse_recipe(argv, [ImportArguments, DataArguments]))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
