"""Try every vision backbone of transformers with small sizes, and list in docs/backbones.md what came of it.

    python -m scripts.maintenance.backbones

A new version of transformers brings new networks: the tests fail until this command has listed them. One that is refused
because the small sizes below do not fit it needs a line in `SIZES`.
"""

import logging
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from model.backbones import BackboneError, try_backbone
from model.configuration_age_gender import picture_encoder
from scripts.maintenance import fill_in


PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"
HEADER = "| `model_type` | network | |\n|---|---|---|"

# Taken over where a configuration has such a value.
COMMON_SIZES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "depths": [1, 1, 1, 1],
}
SWIN = {"patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4}
STAGES = {"hidden_sizes": [8, 8, 16, 16]}
PYRAMID = STAGES | {"num_attention_heads": [1, 1, 1, 1]}
RESNET = {"embedding_size": 32, "hidden_sizes": [32, 32, 32, 32]}
SAM3 = {"backbone_config": COMMON_SIZES | {"model_type": "sam3_vit_model"}, "fpn_hidden_size": 8}
SIZES: dict[str, dict[str, Any]] = {
    "bit": RESNET | {"num_groups": 4},
    "convnext": STAGES | {"patch_size": 4},
    "convnextv2": STAGES | {"patch_size": 4},
    "cvt": {"embed_dim": [8, 8, 16], "num_heads": [1, 1, 1], "depth": [1, 2, 3]},
    "depth_pro": {"patch_size": 384},
    "dinov3_convnext": STAGES,
    "donut-swin": SWIN,
    "efficientloftr": {"hidden_size": 256},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "focalnet": {"patch_size": 4, "embed_dim": 8},
    "glpn": PYRAMID,
    "hiera": {"image_size": [32, 32], "patch_size": [7, 7], "embed_dim": 8, "num_heads": [1, 1, 1, 1]},
    "hgnet_v2": {
        "embedding_size": 8,
        "stem_channels": [3, 8, 8],
        "hidden_sizes": [8, 8, 16, 16],
        "stage_in_channels": [8, 8, 8, 16],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [8, 8, 16, 16],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
    },
    "kosmos-2": {"vision_config": COMMON_SIZES},
    "levit": {
        "image_size": 64,
        "patch_size": 16,
        "hidden_sizes": [16, 16, 16],
        "num_attention_heads": [1, 1, 1],
        "key_dim": [8, 8, 8],
        "depths": [1, 1, 1],
    },
    "maskformer-swin": SWIN,
    "mgp-str": {"image_size": [32, 32]},
    "mobilevit": {"patch_size": 2, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16]},
    "mobilevitv2": {"patch_size": 2, "width_multiplier": 0.25},
    "mobilenet_v1": {"depth_multiplier": 0.1},
    "mobilenet_v2": {"depth_multiplier": 0.1},
    "poolformer": STAGES,
    "pvt": PYRAMID,
    "pvt_v2": PYRAMID,
    "regnet": RESNET | {"groups_width": 8},
    "resnet": RESNET,
    "sam2_hiera_det_model": {"hidden_size": 96, "num_attention_heads": 1},
    "sam3_tracker": {"vision_config": SAM3},
    "sam3_vision_model": SAM3,
    "segformer": PYRAMID,
    "swiftformer": {"embed_dims": [8, 8, 16, 16]},
    "swin": SWIN,
    "swin2sr": SWIN | {"patch_size": 1},
    "swinv2": SWIN,
    "tipsv2": {"text_config": {"hidden_size": 32, "num_attention_heads": 2}},
    "yolos": {"image_size": [32, 32]},
}
SIDES = {
    "levit": 64,
    "mobilevitv2": 64,
    "pp_ocrv5_mobile_rec": 128,
    "pp_ocrv5_server_rec": 64,
    "pp_ocrv6_small_rec": 64,
    "pp_ocrv6_tiny_rec": 64,
}


def picture_kinds() -> dict[str, str]:
    """{model type: network} of all networks of `AutoModel` whose main input is a picture, or that have a vision tower."""
    kinds = {}
    for kind in sorted(MODEL_MAPPING_NAMES):
        try:
            networks = MODEL_MAPPING[CONFIG_MAPPING[kind]]
            network = networks[0] if isinstance(networks, (list, tuple)) else networks
            assert network is not None  # the mapping's type allows it
            takes_pictures = network.main_input_name == "pixel_values"
        except (ImportError, ValueError):  # a sound network without its package, or a name without a network
            continue
        if takes_pictures or f"{kind}_vision_model" in MODEL_MAPPING_NAMES:
            names = MODEL_MAPPING_NAMES[kind]
            kinds[kind] = names if isinstance(names, str) else names[0]
    return kinds


def small_config(kind: str) -> PreTrainedConfig:
    """A configuration of this model type with few weights; of a model with a vision tower a small tower."""
    config_class = CONFIG_MAPPING[kind]
    known = {one.name for one in fields(config_class)}
    if "vision_config" in known and f"{kind}_vision_model" in MODEL_MAPPING_NAMES:
        sizes: dict[str, Any] = {"vision_config": small_config(f"{kind}_vision_model").to_dict()}
    else:
        sizes = {name: value for name, value in COMMON_SIZES.items() if name in known}
    return config_class(**sizes | SIZES.get(kind, {}))


def side(kind: str) -> int:
    """Pixels of the pictures that the small network is tried with."""
    return SIDES.get(kind, 32)


def row(kind: str, network: str) -> str:
    """One line of the table: how wide its small features are does not matter, only whether there are any."""
    config = picture_encoder(small_config(kind))
    try:
        try_backbone(config, side(kind))
    except BackboneError as error:
        return f"| `{kind}` | {network} | refused: {error.reason} |"
    used = "works" if config.model_type == kind else f"works, as its `{config.model_type}`"
    return f"| `{kind}` | {network} | {used} |"


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = [row(*item) for item in picture_kinds().items()]
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill_in(text, {"backbones": "\n".join([HEADER, *rows])}, PAGE.name), encoding="utf-8")
    print(f"{len(rows)} networks, {sum('| works' in one for one in rows)} of them work: {PAGE}")


if __name__ == "__main__":
    main()
