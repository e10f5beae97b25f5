"""Teachers of a distillation: trained models, averaged with each other and with their answers to the flipped face; and what they
answer for each picture as a file, a distribution over years and one over genders.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from model.configuration_age_gender import AgeGenderConfig
from model.model_files import load_image_processor
from model.modeling_age_gender import AgeGenderModel
from model_card.output_files import fill_atomically
from trainer.devices import suit_cpu
from trainer.distillation.embeddings import UNREADABLE, check_arrays
from trainer.recipe import RecipeError


SUFFIX = ".npz"


class SoftPredictions(NamedTuple):
    """age_probs: (B, max_age + 1); gender_probs: (B, genders). float32."""

    age_probs: torch.Tensor
    gender_probs: torch.Tensor


def check_same_labels(teacher: str, max_age: int, gender_names: Sequence[str], student: AgeGenderConfig) -> None:
    """
    Args:
        teacher: for error messages.
        max_age, gender_names: of the teacher.

    Raises:
        RecipeError: the teacher predicts other years or genders than the student learns.
    """
    if max_age != student.max_age:
        raise RecipeError(
            f"teachers: {teacher} knows the years 0 to {max_age}, the student learns 0 to {student.max_age}. Both need the "
            "same max_age."
        )
    if list(gender_names) != list(student.gender_names):
        raise RecipeError(
            f"teachers: the genders of {teacher} are {', '.join(gender_names)}, those of the student "
            f"{', '.join(student.gender_names)}. Both need the same, in the same order."
        )


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
    def load(
        cls, name: str, student: AgeGenderConfig, *, flip_tta: bool, device: torch.device, bf16: bool
    ) -> "Teacher":
        """
        Args:
            name: folder, Hub id, or Hub id@revision.
            student: the configuration of the model that learns from it.
            flip_tta: average over a crop and its flip.
            bf16: whether it will compute in bf16.

        Raises:
            RecipeError: no model of this kind there, or one that predicts other years or genders.
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
        check_same_labels(name, config.max_age, config.gender_names, student)
        config.flip_tta = flip_tta
        suit_cpu(model, device, bf16)
        return cls(model.to(device), processor.image_mean, processor.image_std)

    def predict(self, images: torch.Tensor) -> SoftPredictions:
        """(B, 3, S, S) RGB in 0..1, of any size -> its predictions."""
        if images.shape[-1] != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True)
        output = self.model((images - self.mean) / self.std)
        return SoftPredictions(output.age_logits.float().softmax(dim=1), output.gender_logits.float().softmax(dim=1))


@torch.no_grad()
def mean_predictions(teachers: Sequence[Teacher], images: torch.Tensor, *, bf16: bool) -> SoftPredictions:
    """The mean of the teachers' probabilities; each weighs alike.

    Args:
        images: (B, 3, S, S) RGB in 0..1.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        predictions = [teacher.predict(images) for teacher in teachers]
    return SoftPredictions(*(torch.stack(parts).mean(dim=0) for parts in zip(*predictions, strict=True)))


@dataclass(frozen=True)
class SoftTargets:
    """
    pictures: (N,) names of what the pictures show: their `group` (see trainer.data.loading.load_faces), which follows from their
        content. A set that is renamed or packed otherwise keeps it.
    age_probs: (N, max_age + 1). gender_probs: (N, genders), by `gender_names`. float32, rows sum to 1.
    teachers: whose predictions they are, as `trainer.finetuning.describe_trained` says.
    """

    pictures: np.ndarray
    age_probs: np.ndarray
    gender_probs: np.ndarray
    gender_names: list[str]
    teachers: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Write an .npz file: `pictures`, `age_probs` and `gender_probs` (float16), and `description` (JSON)."""
        description = {"gender_names": self.gender_names, "teachers": self.teachers}
        arrays = {
            "pictures": np.array(self.pictures, dtype="S"),
            "age_probs": self.age_probs.astype(np.float16),
            "gender_probs": self.gender_probs.astype(np.float16),
            "description": np.array(json.dumps(description)),
        }

        def fill(unfinished: Path) -> None:
            with unfinished.open("wb") as file:  # numpy would append .npz to a name without it
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for allow_pickle

        fill_atomically(Path(path), fill)

    @classmethod
    def load(cls, path: str | Path) -> "SoftTargets":
        """
        Raises:
            RecipeError: no such file, no file of soft targets, or numbers that are no probabilities of these genders.
        """
        expected = "Expected a file of scripts.write_soft_targets."
        try:
            check_arrays(path)
            with np.load(path) as file:
                pictures = file["pictures"].astype(str)
                age_probs, gender_probs = (file[name].astype(np.float32) for name in ("age_probs", "gender_probs"))
                description = json.loads(str(file["description"]))
            targets = cls(pictures, age_probs, gender_probs, description["gender_names"], description["teachers"])
        except UNREADABLE as error:
            raise RecipeError(f"{path} holds no soft targets: {type(error).__name__}: {error}. {expected}") from error
        shapes = {"age_probs": age_probs.shape, "gender_probs": gender_probs.shape}
        if any(len(shape) != 2 or shape[0] != len(pictures) for shape in shapes.values()):
            raise RecipeError(f"{path} names {len(pictures)} pictures beside {shapes}: one row each was expected.")
        if gender_probs.shape[1] != len(targets.gender_names):
            raise RecipeError(
                f"{path}: its genders are {', '.join(targets.gender_names)}, but it has {gender_probs.shape[1]} columns of "
                f"gender_probs. {expected}"
            )
        for name, probs in (("age_probs", age_probs), ("gender_probs", gender_probs)):
            sums = probs.sum(axis=1, keepdims=True)
            if not (probs >= 0).all() or not np.allclose(sums, 1, atol=0.02):  # not >=: NaN
                raise RecipeError(f"{path}: {name} are no probabilities: a row must sum to 1. {expected}")
            probs /= sums  # of rounded numbers
        return targets

    def rows_of(self, path: str, pictures: Sequence[str], file_names: Sequence[str]) -> np.ndarray:
        """(M,) row of each picture.

        Args:
            file_names: what to call the pictures in an error.

        Raises:
            RecipeError: pictures are missing.
        """
        known = {picture: row for row, picture in enumerate(self.pictures.tolist())}
        rows = np.array([known.get(picture, -1) for picture in pictures], dtype=np.int64)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            raise RecipeError(
                f"{path} lacks {len(missing)} of the {len(rows)} training pictures, such as {file_names[missing[0]]}. "
                "Write it again with the sets of this recipe, each with the same `align`."
            )
        return rows
