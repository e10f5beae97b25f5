"""Teachers of a distillation: trained models, averaged with each other and with their answers to the mirrored face."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from transformers import AutoImageProcessor

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel
from trainer.devices import suit_cpu
from trainer.recipe import RecipeError


class Answers(NamedTuple):
    """age_probs: (B, max_age + 1); gender_probs: (B, genders). float32."""

    age_probs: torch.Tensor
    gender_probs: torch.Tensor


def split_revision(name: str) -> tuple[str, str | None]:
    """`"user/repo@v1"` -> `("user/repo", "v1")`."""
    name, _, revision = name.partition("@")
    return name, revision or None


class Teacher(nn.Module):
    """A trained model with its preprocessing."""

    def __init__(self, model: AgeGenderModel, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @classmethod
    def load(cls, name: str, *, flip_tta: bool, max_age: int, gender_names: Sequence[str]) -> "Teacher":
        """
        Args:
            name: folder, Hub id, or Hub id@revision.
            flip_tta: average over a crop and its mirror image.
            max_age, gender_names: of the student.

        Raises:
            RecipeError: no model of this kind there, or one that answers other questions than the student learns.
        """
        where, revision = split_revision(name)
        try:
            values, _ = AgeGenderConfig.get_config_dict(where, revision=revision)
            if values.get("model_type") != AgeGenderConfig.model_type:
                raise RecipeError(
                    f"teachers: {name} is a model of type {values.get('model_type')!r}, expected "
                    f"{AgeGenderConfig.model_type!r}: a folder that trainer.train wrote."
                )
            model, loading = AgeGenderModel.from_pretrained(
                where, revision=revision, dtype=torch.float32, output_loading_info=True
            )
            processor = AutoImageProcessor.from_pretrained(where, revision=revision)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise RecipeError(f"teachers: no model of this kind at {name}: {error}") from error
        if any(loading.values()):
            raise RecipeError(f"teachers: the weights at {name} do not fit its configuration: {loading}.")
        config = model.config
        if config.max_age != max_age:
            raise RecipeError(
                f"teachers: {name} knows the years 0 to {config.max_age}, the student learns 0 to {max_age}. Both need "
                "the same max_age."
            )
        if list(config.gender_names) != list(gender_names):
            raise RecipeError(
                f"teachers: the genders of {name} are {', '.join(config.gender_names)}, those of the student "
                f"{', '.join(gender_names)}. Both need the same, in the same order."
            )
        config.flip_tta = flip_tta
        return cls(model, processor.image_mean, processor.image_std)

    def forward(self, images: torch.Tensor) -> Answers:
        """(B, 3, S, S) RGB in 0..1 -> its answers, whatever size it looks at itself."""
        size = self.model.config.image_size
        if images.shape[-1] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        output = self.model((images - self.mean) / self.std)
        return Answers(output.age_logits.float().softmax(dim=1), output.gender_logits.float().softmax(dim=1))


class Teachers(nn.Module):
    """Several teachers: the mean of their probabilities, each weighing alike."""

    def __init__(self, teachers: Sequence[Teacher]):
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.bf16 = False

    @property
    def image_size(self) -> int:
        """Side in pixels of the largest crop that one of them looks at."""
        return max(teacher.model.config.image_size for teacher in self.teachers)

    def prepare(self, device: torch.device, bf16: bool) -> "Teachers":
        """Bring them where they compute."""
        for teacher in self.teachers:
            suit_cpu(teacher.model, device, bf16)
        self.bf16 = bf16
        return self.to(device)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> Answers:
        """(B, 3, S, S) RGB in 0..1 -> the mean answers."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            answers = [teacher(images) for teacher in self.teachers]
        return Answers(*(torch.stack(parts).mean(dim=0) for parts in zip(*answers, strict=True)))
