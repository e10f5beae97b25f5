"""What teachers answer for each picture, as a file: a distribution over years and one over genders."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_card.atomic_files import fill_atomically
from trainer.recipe import RecipeError


SUFFIX = ".npz"


@dataclass(frozen=True)
class SoftTargets:
    """
    pictures: (N,) names of what the pictures show: their `group` (see trainer.data.loading.load_faces), which follows from their
        content. A set that is renamed or packed otherwise keeps it.
    age_probs: (N, max_age + 1). gender_probs: (N, genders), by `gender_names`. float32, rows sum to 1.
    teachers: who answered, as `trainer.finetuning.describe_trained` says.
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
            RecipeError: no such file, no file of soft targets, or numbers that are no probabilities.
        """
        expected = "Expected a file of scripts.write_soft_targets."
        try:
            with np.load(path) as file:
                pictures = file["pictures"].astype(str)
                age_probs, gender_probs = (file[name].astype(np.float32) for name in ("age_probs", "gender_probs"))
                description = json.loads(str(file["description"]))
            targets = cls(pictures, age_probs, gender_probs, description["gender_names"], description["teachers"])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise RecipeError(f"{path} holds no soft targets: {type(error).__name__}: {error}. {expected}") from error
        shapes = {"age_probs": age_probs.shape, "gender_probs": gender_probs.shape}
        if any(len(shape) != 2 or shape[0] != len(pictures) for shape in shapes.values()):
            raise RecipeError(f"{path} names {len(pictures)} pictures beside {shapes}: one row each was expected.")
        for name, probs in (("age_probs", age_probs), ("gender_probs", gender_probs)):
            sums = probs.sum(axis=1, keepdims=True)
            if not (probs >= 0).all() or not np.allclose(sums, 1, atol=0.02):  # not >=: NaN
                raise RecipeError(f"{path}: {name} are no probabilities: a row must sum to 1. {expected}")
            probs /= sums  # of rounded numbers
        return targets

    def check(self, path: str, max_age: int, gender_names: Sequence[str]) -> None:
        """
        Raises:
            RecipeError: the answers are to other questions than the student's.
        """
        if self.age_probs.shape[1] != max_age + 1:
            raise RecipeError(
                f"{path}: its teachers know the years 0 to {self.age_probs.shape[1] - 1}, the student learns 0 to "
                f"{max_age}. Both need the same max_age."
            )
        if list(gender_names) != self.gender_names or self.gender_probs.shape[1] != len(gender_names):
            raise RecipeError(
                f"{path}: its genders are {', '.join(self.gender_names)} ({self.gender_probs.shape[1]} columns), those of "
                f"the student {', '.join(gender_names)}. Both need the same, in the same order."
            )

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
