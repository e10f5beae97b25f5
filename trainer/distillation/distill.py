"""Learning from teachers beside the labels: soft targets of trained models, and embeddings of another network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch.nn import functional as F

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderOutput
from trainer.data.transforms import collate_faces
from trainer.distillation.embeddings import read_embeddings
from trainer.distillation.teachers import (
    SUFFIX,
    SoftPredictions,
    SoftTargets,
    Teacher,
    check_same_labels,
    mean_predictions,
    split_revision,
)
from trainer.finetuning import describe_trained
from trainer.recipe import RecipeError
from trainer.run_record import public_name


@dataclass
class DistillationArguments:
    """Whom a model learns from, beside its labels."""

    teachers: list[str] | None = field(
        default=None,
        metadata={
            "help": "Trained models: folders, Hub ids or Hub ids@revision, which predict for the same augmented crops "
            "as the student; or .npz files of scripts.write_soft_targets, with one prediction for each picture. Several are "
            "averaged."
        },
    )
    teacher_flip_tta: bool = field(
        default=True,
        metadata={
            "help": "Horizontal-flip test-time augmentation of the teachers. Files of soft targets already include it."
        },
    )
    distillation_weight: float = field(
        default=0.5, metadata={"help": "Weight of the teachers' loss, 0 to 1; the losses of the labels get the rest."}
    )
    distillation_temperature: float = field(
        default=1.0, metadata={"help": "Above 1, what teachers hold for less likely counts more (Hinton et al., 2015)."}
    )
    embeddings: str | None = field(
        default=None,
        metadata={
            "help": "An .npz file of embeddings by another network, which a third head learns; it is thrown away after the "
            "training. For each set, arrays SET (N, size) and SET_names (N,), file names without folders; SET is a "
            "folder in the paths of the pictures."
        },
    )
    embedding_loss_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of their mean squared error, after each of their numbers is standardised."},
    )

    def __post_init__(self):
        if not 0 <= self.distillation_weight <= 1:
            raise RecipeError(f"distillation_weight must lie between 0 and 1, got {self.distillation_weight}.")
        if self.distillation_temperature <= 0:
            raise RecipeError(f"distillation_temperature must be above 0, got {self.distillation_temperature}.")
        if self.embedding_loss_weight < 0:
            raise RecipeError(f"embedding_loss_weight must be 0 or more, got {self.embedding_loss_weight}.")

    @property
    def files(self) -> list[str]:
        return [name for name in self.teachers or () if name.endswith(SUFFIX)]

    @property
    def models(self) -> list[str]:
        return [name for name in self.teachers or () if not name.endswith(SUFFIX)]

    @property
    def paths(self) -> list[str]:
        """Places on this machine, and names on the Hub, that the arguments name."""
        return [*(self.teachers or ()), *([self.embeddings] if self.embeddings else [])]

    def describe(self) -> dict[str, Any]:
        """These arguments for the run's record, without where files lie on this machine."""
        return asdict(self) | {
            "teachers": self.teachers and [public_name(name) for name in self.teachers],
            "embeddings": self.embeddings and public_name(self.embeddings),
        }


class FacesWithTargets(torch.utils.data.Dataset):
    """Decoded faces, each with what it is to be learnt from beside its labels."""

    def __init__(self, faces: Dataset, targets: dict[str, np.ndarray]):
        """
        Args:
            targets: by the name that `Distillation` and the model know them by; (N, ...) each, by row of `faces`.
        """
        self.faces, self.targets = faces, targets

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows = self.faces.__getitems__(indices)
        return [
            row | {name: values[index] for name, values in self.targets.items()}
            for index, row in zip(indices, rows, strict=True)
        ]


def collate_targets(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """As `collate_faces`, with every target as (B, ...) float32."""
    names = [name for name in TARGETS if name in rows[0]]
    targets = {name: torch.from_numpy(np.stack([row[name] for row in rows]).astype(np.float32)) for name in names}
    return collate_faces(rows) | targets


TARGETS = ("age_probs", "gender_probs", "embeddings")


def read_targets(
    embeddings: str | None, soft_targets: Sequence[tuple[str, SoftTargets]], parts: Sequence[Dataset | IterableDataset]
) -> dict[str, np.ndarray]:
    """What files say of the training pictures: standardised embeddings, and the mean of the soft targets.

    Args:
        embeddings: a file of them, if there is one.
        soft_targets: (file, what it holds), each weighs alike.
        parts: the training faces, see `trainer.data.loading.load_faces`.

    Raises:
        RecipeError: a file of embeddings cannot be read, or pictures are missing.
    """
    targets: dict[str, np.ndarray] = {}
    if not (soft_targets or embeddings):
        return targets
    assert not any(isinstance(part, IterableDataset) for part in parts), "load_teachers refuses streams"
    pictures, file_names = ([name for part in parts for name in part[column]] for column in ("group", "file_name"))
    if soft_targets:
        rows = [(soft, soft.rows_of(path, pictures, file_names)) for path, soft in soft_targets]
        targets["age_probs"] = np.mean([soft.age_probs[row] for soft, row in rows], axis=0)
        targets["gender_probs"] = np.mean([soft.gender_probs[row] for soft, row in rows], axis=0)
    if embeddings:
        targets["embeddings"] = read_embeddings(embeddings, file_names)
    return targets


def soft_predictions_of(batch: dict[str, Any]) -> SoftPredictions | None:
    """The soft targets in a batch, if it has any."""
    return SoftPredictions(batch["age_probs"], batch["gender_probs"]) if "age_probs" in batch else None


class Distillation:
    """The teachers of a run: what they predict, and their part of the loss.

    soft_targets: (file, what it holds) of the teachers that wrote files.
    """

    def __init__(self, args: DistillationArguments, config: AgeGenderConfig, device: torch.device, bf16: bool):
        """
        Args:
            config: of the student.

        Raises:
            RecipeError: a teacher or a file cannot be loaded, or predicts other years or genders than the student learns.
        """
        self.weight, self.temperature = args.distillation_weight, args.distillation_temperature
        self.gender_loss_weight = config.gender_loss_weight
        self.bf16 = bf16
        self.names = args.models
        self.teachers = [
            Teacher.load(name, config, flip_tta=args.teacher_flip_tta, device=device, bf16=bf16) for name in self.names
        ]
        self.soft_targets = [(path, SoftTargets.load(path)) for path in args.files]
        for path, soft in self.soft_targets:
            check_same_labels(path, soft.age_probs.shape[1] - 1, soft.gender_names, config)
        self.file_share = len(args.files) / max(len(args.teachers or ()), 1)

    def describe_teachers(self) -> list[dict[str, Any]]:
        """What `describe_trained` says of every teacher, those that wrote files among them.

        Raises:
            RecipeError: the record of a teacher cannot be read.
        """
        models = [describe_trained(*split_revision(name), "teachers") for name in self.names]
        return models + [teacher for _, soft in self.soft_targets for teacher in soft.teachers]

    def view_size(self, size: int) -> int:
        """Side in pixels at which a crop is augmented, so that student (`size`) and teachers see the same."""
        return max([size, *(teacher.image_size for teacher in self.teachers)])

    def predict(self, images: torch.Tensor, from_files: SoftPredictions | None) -> SoftPredictions:
        """The mean of all teachers.

        Args:
            images: (B, 3, S, S) RGB in 0..1, the crops that the student sees.
            from_files: the mean of the files, if there are any.
        """
        if not self.teachers:
            assert from_files is not None, "read_targets gives every face the soft targets of files"
            return from_files
        own = mean_predictions(self.teachers, images, bf16=self.bf16)
        if from_files is None:
            return own
        means = [self.file_share * a + (1 - self.file_share) * b for a, b in zip(from_files, own, strict=True)]
        return SoftPredictions(*means)

    def soft_loss(self, outputs: AgeGenderOutput, soft: SoftPredictions) -> torch.Tensor:
        """Scalar: divergence from the teachers' years, plus `gender_loss_weight` times that from their genders."""
        return soft_divergence(outputs.age_logits, soft.age_probs, self.temperature) + (
            self.gender_loss_weight * soft_divergence(outputs.gender_logits, soft.gender_probs, self.temperature)
        )

    def loss(self, outputs: AgeGenderOutput, soft_loss: torch.Tensor) -> torch.Tensor:
        """The student's loss with the teachers' share in place of as much of the labels'; other losses in it stay."""
        assert outputs.loss is not None
        assert outputs.age_loss is not None
        assert outputs.gender_loss is not None
        label_loss = outputs.age_loss + self.gender_loss_weight * outputs.gender_loss
        return outputs.loss + self.weight * (soft_loss - label_loss)


def soft_divergence(logits: torch.Tensor, probs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean Kullback-Leibler divergence of softmax(logits / T) from the teachers' probabilities at T, times T squared.

    Args:
        logits: (B, classes). probs: (B, classes), at temperature 1.
    """
    softened = (probs.clamp(min=1e-8).log() / temperature).log_softmax(dim=1)
    own = (logits.float() / temperature).log_softmax(dim=1)
    return F.kl_div(own, softened, reduction="batchmean", log_target=True) * temperature**2
