"""Teachers of a distillation: trained models, averaged with each other and with their answers to the flipped face."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from model.configuration_age_gender import AgeGenderConfig
from model.model_files import load_image_processor
from model.modeling_age_gender import AgeGenderModel
from trainer.devices import suit_cpu
from trainer.recipe import RecipeError


class Answers(NamedTuple):
    """age_probs: (B, max_age + 1); gender_probs: (B, genders). float32."""

    age_probs: torch.Tensor
    gender_probs: torch.Tensor


class Questions(NamedTuple):
    """What the student learns to answer, as its configuration says."""

    max_age: int
    gender_names: list[str]


def split_revision(name: str) -> tuple[str, str | None]:
    """`"user/repo@v1"` -> `("user/repo", "v1")`; the path of a folder stays whole."""
    if Path(name).is_dir():
        return name, None
    name, _, revision = name.partition("@")
    return name, revision or None


class Teacher:
    """A trained model with its preprocessing."""

    def __init__(self, model: AgeGenderModel, mean: Sequence[float], std: Sequence[float]):
        self.model = model.eval().requires_grad_(False)
        self.image_size = model.config.image_size
        self.mean, self.std = (torch.tensor(values, device=model.device).view(3, 1, 1) for values in (mean, std))

    @classmethod
    def load(cls, name: str, questions: Questions, *, flip_tta: bool, device: torch.device, bf16: bool) -> "Teacher":
        """
        Args:
            name: folder, Hub id, or Hub id@revision.
            flip_tta: average over a crop and its flip.
            bf16: whether it will compute in bf16.

        Raises:
            RecipeError: no model of this kind there, or one that answers other questions.
        """
        where, revision = split_revision(name)
        try:
            values, _ = AgeGenderConfig.get_config_dict(where, revision=revision)
            if values.get("model_type") != AgeGenderConfig.model_type:
                raise RecipeError(
                    f"teachers: {name} is a model of type {values.get('model_type')!r}, expected "
                    f"{AgeGenderConfig.model_type!r}: a folder that trainer.train wrote."
                )
            model: Any = AgeGenderModel.from_pretrained(where, revision=revision or "main", dtype=torch.float32)
            processor = load_image_processor(where, revision)
        except OSError as error:  # ModelFileError is one
            raise RecipeError(f"teachers: no model of this kind at {name}: {error}") from error
        config = model.config
        if config.max_age != questions.max_age:
            raise RecipeError(
                f"teachers: {name} knows the years 0 to {config.max_age}, the student learns 0 to {questions.max_age}. "
                "Both need the same max_age."
            )
        if list(config.gender_names) != questions.gender_names:
            raise RecipeError(
                f"teachers: the genders of {name} are {', '.join(config.gender_names)}, those of the student "
                f"{', '.join(questions.gender_names)}. Both need the same, in the same order."
            )
        config.flip_tta = flip_tta
        suit_cpu(model, device, bf16)
        return cls(model.to(device), processor.image_mean, processor.image_std)

    def answer(self, images: torch.Tensor) -> Answers:
        """(B, 3, S, S) RGB in 0..1 -> its answers, whatever size it looks at itself."""
        if images.shape[-1] != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True)
        output = self.model((images - self.mean) / self.std)
        return Answers(output.age_logits.float().softmax(dim=1), output.gender_logits.float().softmax(dim=1))


@torch.no_grad()
def mean_answers(teachers: Sequence[Teacher], images: torch.Tensor, *, bf16: bool) -> Answers:
    """The mean of the teachers' probabilities; each weighs alike.

    Args:
        images: (B, 3, S, S) RGB in 0..1.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        answers = [teacher.answer(images) for teacher in teachers]
    return Answers(*(torch.stack(parts).mean(dim=0) for parts in zip(*answers, strict=True)))
