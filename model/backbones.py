"""The backbone: any network of transformers that makes features of pictures alone.

docs/backbones.md lists which ones do, and why the others are refused.
"""

import inspect
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from .errors import AgeGenderError
from .network_limits import ChecksWeightFiles, NetworkTooLargeError, bounded_network


PICTURES = 2  # in the batch of `try_backbone`
CLASS_TOKEN_NAMES = ("cls_token", "cls_register_token", "class_embedding")  # of parameters
# On CPUs: MobileNetV1 at 112 pixels takes a third less time in this memory format, dlib's ResNet at 144 a quarter less.
FAST_IN_CHANNELS_LAST = ("mobilenet_v1", "resnet")
POOLED_FIRST = ("dinov3_convnext",)  # its first token is the mean of its map


def choose_memory_format(model: PreTrainedModel, device: torch.device) -> None:
    """Lay the weights of an age-and-gender model out as `device` computes faster with; what it computes stays the same."""
    if device.type == "cpu" and model.config.backbone_config.model_type in FAST_IN_CHANNELS_LAST:
        cast(Any, model).to(memory_format=torch.channels_last)  # transformers types `to` with fewer arguments


class BackboneError(AgeGenderError):
    """This network cannot be the backbone. The message names it and says why: that part is `reason`."""

    def __init__(self, model_type: str, reason: str):
        super().__init__(f"{model_type} cannot be the backbone: {reason} docs/backbones.md lists those that can.")
        self.reason = reason


class BackboneTrial(NamedTuple):
    """What `try_backbone` found out.

    width: channels C of the pooled features.
    interpolates: whether it can interpolate its position embeddings, for pictures of another size than its own.
    unused: parameters that these features do not depend on, such as the mask token of DINOv2.
    has_class_token: whether the first of its tokens stands for the whole picture.
    """

    width: int
    interpolates: bool
    unused: list[str]
    has_class_token: bool


class HalvingBlock(nn.Module):
    """A block of dlib's ResNets that halves the map: (B, C, H, W) -> (B, C', H // 2, W // 2).

    The shortcut averages 2 x 2 pixels, where ResNet takes one of four, and no convolution with a stride pads the map: what
    such a convolution misses of an even H is 0. http://dlib.net/dnn_face_recognition_ex.cpp.html calls it `ares_down`.
    """

    def __init__(self, block: Any):
        """
        Args:
            block: transformers' ResNetBasicLayer with a stride of 2; its parameters keep their names.
        """
        super().__init__()
        self.shortcut, self.layer, self.activation = block.shortcut, block.layer, block.activation
        self.shortcut.convolution.stride = (1, 1)
        self.layer[0].convolution.padding = (0, 0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        shortcut, changed = self.shortcut(F.avg_pool2d(features, 2)), self.layer(features)
        down, right = (whole - part for whole, part in zip(shortcut.shape[2:], changed.shape[2:], strict=True))
        return self.activation(shortcut + F.pad(changed, (0, right, 0, down)))


def make_dlib_layers(backbone: Any) -> None:
    """Change the layers of a ResNet of basic blocks to those of dlib's, whose weights it can then have."""
    backbone.embedder.embedder.convolution.padding = (0, 0)
    backbone.embedder.pooler.padding = 0
    for stage in backbone.encoder.stages:
        for index, block in enumerate(stage.layers):
            if block.layer[0].convolution.stride != (1, 1):
                stage.layers[index] = HalvingBlock(block)


def build_backbone(config: PreTrainedConfig) -> PreTrainedModel:
    """The backbone with random weights, without the pooling layer of a ViT, which is not used.

    The configuration of a ResNet may have `dlib_layers` beside what transformers knows: see `make_dlib_layers`.

    Raises:
        BackboneError: `dlib_layers` is set and it is no ResNet of basic blocks.
    """
    dtype = torch.get_default_dtype()  # that of the heads; `config` may name the float16 of a checkpoint
    try:
        backbone = AutoModel.from_config(config, add_pooling_layer=False, dtype=dtype)
    except TypeError:  # convolutional backbones pool without weights and have no such argument
        backbone = AutoModel.from_config(config, dtype=dtype)
    for norm in backbone.modules():
        # MobileNet's 0.9997 is TensorFlow's momentum, with which torch would keep the last batch's statistics only:
        # https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/models/mobilenet_v1/modeling_mobilenet_v1.py
        if isinstance(norm, nn.BatchNorm2d) and norm.momentum is not None and norm.momentum > 0.5:
            norm.momentum = 0.01
    if getattr(config, "dlib_layers", False):
        if config.model_type != "resnet" or config.layer_type != "basic":
            raise BackboneError(config.model_type, "dlib_layers is for a resnet of basic blocks.")
        make_dlib_layers(backbone)
    return backbone


def load_backbone(name_or_path: str, config: PreTrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A pretrained backbone without its head, and what transformers says of its keys.

    Raises:
        ModelWeightsError: its weights are those of a far smaller network than `config` describes.
    """
    network = _network_class(config)
    # By name and module transformers knows how to rename the weights of older versions.
    checked: Any = type(network.__name__, (ChecksWeightFiles, network), {"__module__": network.__module__})
    return checked.from_pretrained(name_or_path, config=config, output_loading_info=True)


def try_backbone(config: PreTrainedConfig, image_size: int) -> BackboneTrial:
    """Send pictures of (image_size, image_size) pixels through the backbone on torch's meta device.

    That computes shapes only: it takes no memory for weights, and no random numbers from what follows.

    Raises:
        BackboneError: the network needs more than a picture, cannot take one of this size, or gives no features of it.
    """
    _check_inputs(config)
    # grad: a caller may load the model in inference mode
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad(), torch.device("meta"):
        try:
            with bounded_network():
                backbone = build_backbone(config).eval()
            interpolates = "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters
            resizes = interpolates and getattr(config, "image_size", image_size) != image_size
            options = {"interpolate_pos_encoding": True} if resizes else {}
            features = backbone(torch.zeros(PICTURES, 3, image_size, image_size), **options)
            pooled = pool_features(features, "mean")
            if len(pooled) != PICTURES:  # Pixtral puts all pictures into one sequence
                raise ValueError("it does not keep the pictures of a batch apart.")
            pooled.sum().backward()
        except (ImportError, NetworkTooLargeError) as error:
            raise BackboneError(config.model_type, _first_sentence(error)) from error
        except Exception as error:  # each network fails in its own way
            raise BackboneError(
                config.model_type,
                f"given pictures of {image_size} x {image_size} pixels alone, it fails: {_first_sentence(error)}",
            ) from error
    unused = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    last = features.get("last_hidden_state")
    used = [name for name, _ in backbone.named_parameters() if name not in unused]
    has_class_token = (last is not None and last.dim() == 3) and (
        config.model_type in POOLED_FIRST or any(name.endswith(CLASS_TOKEN_NAMES) for name in used)
    )
    return BackboneTrial(pooled.shape[1], interpolates, unused, has_class_token)


def _network_class(config: PreTrainedConfig) -> Any:
    networks: Any = MODEL_MAPPING[type(config)]
    return networks[0] if isinstance(networks, (list, tuple)) else networks


def _check_inputs(config: PreTrainedConfig) -> None:
    """Raises `BackboneError` for a network that needs text, frames or a grid beside a picture, or answers with objects."""
    if type(config) not in MODEL_MAPPING:
        raise BackboneError(config.model_type, "AutoModel builds no network of it.")
    network = _network_class(config)
    try:
        inputs = [network.main_input_name] if isinstance(network.main_input_name, str) else network.main_input_name
    except ImportError as error:  # the class that stands in for one whose package is missing
        raise BackboneError(config.model_type, _first_sentence(error)) from error
    required = [
        name
        for name, parameter in inspect.signature(network.forward).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and name not in ("self", *inputs)
    ]
    needed = [name for name in (*inputs, *required) if name != "pixel_values"]
    if needed:
        raise BackboneError(config.model_type, f"beside a picture it needs {', '.join(needed)}.")
    if hasattr(config, "num_queries"):
        raise BackboneError(config.model_type, "it answers with objects and not with features of the picture.")


def _first_sentence(error: Exception) -> str:
    """Of an error's message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".") + "."


def pool_features(features: Any, pooling: str) -> torch.Tensor:
    """What a backbone returns for square pictures -> (B, C).

    Tokens, (B, tokens, C), are pooled by `pooling`; a map, (B, C, H, W) or (B, H, W, C), by the backbone's own pooling or
    else by its mean.

    Raises:
        ValueError: there are neither tokens nor a map.
    """
    last, maps = features.get("last_hidden_state"), features.get("feature_maps")
    if last is None and maps:
        last = maps[-1]
    if last is None or last.dim() not in (3, 4):
        raise ValueError("no features of a picture, (B, tokens, C) or (B, C, H, W), come out.")
    if last.dim() == 3:
        return last[:, 0] if pooling == "cls" else last.mean(dim=1)
    pooled = features.get("pooler_output")
    if pooled is not None:
        return pooled.flatten(1)
    channels_last = last.shape[1] == last.shape[2] != last.shape[3]  # the map of a square picture is square
    return last.mean(dim=(1, 2) if channels_last else (2, 3))
