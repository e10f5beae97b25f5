"""A vision backbone with two heads: a distribution over single years of age, and gender."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .backbones import build_backbone, load_backbone, pool_features, try_backbone
from .configuration_age_gender import AgeGenderConfig, load_backbone_config
from .configuration_checks import check_numbers
from .errors import AgeGenderError
from .losses_age_gender import age_loss, class_loss, sum_into_ranges
from .model_files import (
    ModelFileError,
    ModelWeightsError,
    copy_pipeline_files,
    follow_umask,
    one_line,
    revision_of_this_code,
)
from .network_limits import ChecksWeightFiles


@dataclass
class AgeGenderOutput(ModelOutput):
    """
    loss: scalar, if labels were given: age_loss + gender_loss_weight * gender_loss, or the one whose labels were given.
    age_loss, gender_loss: scalars, if their labels were given.
    age_logits: (B, max_age + 1), one a year.
    age_range_logits: (B, ranges); their softmax is exactly the sum of the years' probabilities in each range.
    gender_logits: (B, genders).
    hidden_states, attentions: of the backbone, on request.
    """

    # The logits are always there, but ModelOutput demands a default for every field after the first.
    loss: torch.Tensor | None = None
    age_logits: torch.Tensor = None  # type: ignore[assignment]
    age_range_logits: torch.Tensor = None  # type: ignore[assignment]
    gender_logits: torch.Tensor = None  # type: ignore[assignment]
    age_loss: torch.Tensor | None = None
    gender_loss: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class ConvStem(nn.Sequential):
    """(B, 3, H, W) -> (B, hidden, H / 2^n, W / 2^n): stride-2 convolutions in place of a ViT's patch projection.

    Xiao et al., "Early Convolutions Help Transformers See Better" (2021). Without pretraining, a small ViT barely learns
    from faces without it.
    """

    def __init__(self, channels: list[int], hidden_size: int):
        layers: list[nn.Module] = []
        previous = 3
        for index, width in enumerate(channels):
            layers += [nn.Conv2d(previous, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.GELU()]
            if index in (1, 2):  # a second convolution where the maps are small enough for it to be cheap
                layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.GELU()]
            previous = width
        super().__init__(*layers, nn.Conv2d(previous, hidden_size, 1))

    @property
    def weight(self) -> torch.Tensor:
        """The last layer's weight: `ViTModel.forward` casts its input to the dtype of its projection's `weight`.

        https://github.com/huggingface/transformers/blob/main/src/transformers/models/vit/modeling_vit.py
        """
        return self[-1].weight  # type: ignore[return-value]  # torch types an attribute as Tensor | Module


class AgeGenderModel(ChecksWeightFiles, PreTrainedModel):
    """A vision backbone whose pooled features feed a linear head for years and one for gender."""

    config: AgeGenderConfig
    config_class = AgeGenderConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]  # as transformers' own vision models
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: AgeGenderConfig):
        super().__init__(config)
        config.set_age_ranges(config.age_ranges)  # checks those of from_pretrained(..., age_ranges=...),
        check_numbers(config)  # and other values that were set after the configuration was made
        backbone_config = config.backbone_config
        assert isinstance(backbone_config, PreTrainedConfig)  # AgeGenderConfig makes one of a dict or of None
        trial = try_backbone(backbone_config, config.image_size)
        if config.pooling == "cls" and not trial.has_class_token:
            raise AgeGenderError(
                f"Expected pooling mean for {backbone_config.model_type}, which has no class token; got cls. Its first token is "
                "one corner of the picture, or it has a map in place of tokens."
            )
        self._interpolates_positions = trial.interpolates
        self.backbone = build_backbone(backbone_config)
        self._unused_parameters = trial.unused
        self._freeze_unused()
        if config.stem_channels:
            patch_size = backbone_config.patch_size
            if 2 ** len(config.stem_channels) != patch_size:
                raise AgeGenderError(
                    f"Expected stem_channels for a backbone with patches of {patch_size} pixels; got "
                    f"{len(config.stem_channels)} channels, which shrink a picture {2 ** len(config.stem_channels)} times. "
                    "Give one channel for each halving."
                )
            embeddings: Any = self.backbone.embeddings
            embeddings.patch_embeddings.projection = ConvStem(config.stem_channels, trial.width)
        self.dropout = nn.Dropout(config.head_dropout)
        self.age_head = nn.Linear(trial.width, config.max_age + 1)
        self.gender_head = nn.Linear(trial.width, len(config.gender_names))
        self.post_init()

    def _freeze_unused(self) -> None:
        """An optimizer would only decay the parameters that nothing depends on, and DistributedDataParallel refuses them."""
        for name in self._unused_parameters:
            self.backbone.get_parameter(name).requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A trained model, only if all its weights are there: transformers itself fills gaps with random numbers.

        The parameters that the features do not depend on are frozen, as in a new model. Pickled weights are not read.

        Args:
            output_loading_info: return what transformers says of the keys too, and do not check them.

        Raises:
            ModelWeightsError: weights are missing, unknown, of another shape than config.json describes, or NaN or Inf.
            ModelFileError: a file cannot be read.
            AgeGenderError: a value of the configuration cannot be used.
        """
        name, allows_shapes = pretrained_model_name_or_path, kwargs.pop("ignore_mismatched_sizes", False)
        kwargs.setdefault("use_safetensors", True)
        try:
            loaded: Any = super().from_pretrained(
                name, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except AgeGenderError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise ModelFileError(f"The model {name} cannot be loaded: {one_line(error)}") from error
        model, loading = loaded
        model._freeze_unused()
        if output_loading_info:
            return model, loading
        shapes = [f"{key} {list(saved)} for {list(own)}" for key, saved, own in loading["mismatched_keys"]]
        for problem, keys in (
            ("are missing", loading["missing_keys"]),
            ("are not of this network", loading["unexpected_keys"]),
            ("have another shape", [] if allows_shapes else shapes),
            ("are NaN or Inf", model._not_finite()),
        ):
            if keys:
                raise ModelWeightsError(
                    f"The weights of {name} do not fit its configuration: {len(keys)} {problem}, such as {min(keys)}. Is the "
                    "folder that of a finished run?"
                )
        return model

    def _not_finite(self) -> list[str]:
        """Names of the weights and statistics that hold NaN or Inf."""
        return [
            name
            for name, values in self.state_dict().items()
            if not values.is_meta and values.is_floating_point() and not values.isfinite().all()
        ]

    @classmethod
    def from_backbone(cls, name_or_path: str, **config_values: Any) -> "AgeGenderModel":
        """A model with the weights of a vision checkpoint (a Hub id or a folder) as its backbone, and new heads.

        Raises:
            ModelFileError: as `load_backbone_config`.
            ModelWeightsError: weights of the backbone are missing, or NaN or Inf.

        >>> model = AgeGenderModel.from_backbone("google/vit-base-patch16-224-in21k", pooling="cls")
        """
        config = AgeGenderConfig(backbone_config=load_backbone_config(name_or_path), **config_values)
        backbone_config: Any = config.backbone_config
        with torch.device("meta"):
            cls(config)  # refuses what cannot be built, before anything is downloaded
        backbone, loading = load_backbone(name_or_path, backbone_config)
        model = cls(config)
        missing = [key for key in loading["missing_keys"] if key in model.backbone.state_dict()]
        if missing:
            raise ModelWeightsError(
                f"The weights of {name_or_path} are not those of the {backbone_config.model_type} that it describes: "
                f"{len(missing)} are missing, such as {min(missing)}. Name a pretrained vision backbone."
            )
        # strict=False: a ViT's pooling layer is left out here, and a stem is not in the checkpoint
        model.backbone.load_state_dict(backbone.state_dict(), strict=False)
        if not_finite := model._not_finite():
            raise ModelWeightsError(
                f"{len(not_finite)} weights of {name_or_path} are NaN or Inf, such as {not_finite[0]}."
            )
        return model

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:  # type: ignore[override]
        """Save the model, and of where it was loaded from what `pipeline` needs beside it."""
        name_or_path = self.config.name_or_path
        for pipeline in (getattr(self.config, "custom_pipelines", None) or {}).values():
            pipeline["impl"] = pipeline["impl"].split("--")[-1]  # without the repository on the Hub: the code is copied
        super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):
            follow_umask(save_directory)
            if name_or_path:
                copy_pipeline_files(name_or_path, save_directory, revision_of_this_code())

    def forward(
        self,
        pixel_values: torch.Tensor,
        age_labels: torch.Tensor | None = None,
        gender_labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> AgeGenderOutput:
        """
        Args:
            pixel_values: (B, 3, image_size, image_size), normalised as preprocessor_config.json says. Other sizes work
                too, for training at growing resolutions; a ViT then interpolates its position embeddings.
            age_labels: (B,) whole years, or (B, 2) inclusive ranges of years; -100 where unknown.
            gender_labels: (B,) index into `config.gender_names`; -100 where unknown.
            output_attentions: needs a backbone loaded with `attn_implementation="eager"`.

        Returns:
            The logits; with labels also their losses. With those of one head only, `loss` is that of this head.
        """
        options = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        native_size = getattr(self.config.backbone_config, "image_size", self.config.image_size)
        if self._interpolates_positions and pixel_values.shape[-1] != native_size:
            options["interpolate_pos_encoding"] = True
        flip_tta = self.config.flip_tta and not self.training
        crops = torch.cat([pixel_values, pixel_values.flip(-1)]) if flip_tta else pixel_values
        features = self.backbone(crops, **{name: value for name, value in options.items() if value})
        pooled = pool_features(features, self.config.pooling)
        if flip_tta:  # the heads are linear, so the mean of the features gives the mean of the logits
            pooled = pooled.unflatten(0, (2, -1)).mean(dim=0)
        pooled = self.dropout(pooled)
        age_logits, gender_logits = self.age_head(pooled), self.gender_head(pooled)
        loss = loss_age = loss_gender = None
        if age_labels is not None:
            loss = loss_age = age_loss(age_logits, age_labels, self.config)
        if gender_labels is not None:
            loss_gender = class_loss(gender_logits, gender_labels, self.config.gender_label_smoothing)
            weighted = self.config.gender_loss_weight * loss_gender
            loss = weighted if loss is None else loss + weighted
        return AgeGenderOutput(
            loss=loss,
            age_logits=age_logits,
            age_range_logits=sum_into_ranges(age_logits, self.config.age_ranges),
            gender_logits=gender_logits,
            age_loss=loss_age,
            gender_loss=loss_gender,
            hidden_states=first_rows(features.get("hidden_states"), pixel_values.shape[0]),
            attentions=first_rows(features.get("attentions"), pixel_values.shape[0]),
        )


def first_rows(layers: tuple[torch.Tensor, ...] | None, count: int) -> tuple[torch.Tensor, ...] | None:
    """The first `count` rows of each layer: without the flipped crops of test-time augmentation."""
    return layers and tuple(layer[:count] for layer in layers)


AgeGenderModel.register_for_auto_class("AutoModel")
