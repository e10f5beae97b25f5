"""Predictions beside their labels, and how a score of some of the faces gets its interval and count."""

from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from scipy.stats import binomtest
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from model.configuration_age_gender import AgeGenderConfig, age_range_label
from model.decoding_age_gender import estimate_age, softmax
from model.modeling_age_gender import IGNORE_INDEX
from model.pipeline_age_gender import AgeGenderPipeline
from trainer.data.sources import load_row_picture
from trainer.evaluation.bootstrap import Bootstrap, Statistic, mean_of
from trainer.metrics import exact_ages


MINIMUM_FOR_INTERVAL = 10  # below, a bootstrap interval of a mean says nothing

Score = dict[str, float | int | None]  # {"value": .., "low": .., "high": .., "n": faces}


@dataclass
class Predictions:
    """What a model said about N labelled faces.

    age_probs: (N, years); gender_probs: (N, 2); age_labels: (N, 2) inclusive years; gender_labels: (N,); races: (N,)
    names or "unknown"; groups: (N,), the same for near-identical pictures. Labels are -100 where unknown.
    """

    age_probs: np.ndarray
    gender_probs: np.ndarray
    age_labels: np.ndarray
    gender_labels: np.ndarray
    races: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.age_probs)

    @classmethod
    def of(cls, age_logits: np.ndarray, gender_logits: np.ndarray, faces: Dataset) -> "Predictions":
        """From (N, years) and (N, 2) logits for the N rows of `faces`.

        Args:
            faces: columns age, gender, race, group and, where ages are known as ranges, age_low and age_high.
        """
        return cls(
            age_probs=softmax(age_logits.astype(np.float64)),
            gender_probs=softmax(gender_logits.astype(np.float64)),
            age_labels=age_bounds(faces),
            gender_labels=np.array(faces["gender"]),
            races=np.array(faces["race"]),
            groups=np.array(faces["group"]),
        )

    def select(self, faces: np.ndarray) -> "Predictions":
        """The faces of an (N,) mask."""
        return Predictions(*(getattr(self, field.name)[faces] for field in fields(self)))


def age_bounds(faces: Dataset) -> np.ndarray:
    """(N, 2) inclusive years of each face's age: twice its exact age where it has one, -100 where nothing is known."""
    ages = np.array(faces["age"])
    low, high = (
        np.where(ages == IGNORE_INDEX, np.array(faces[column]), ages) if column in faces.column_names else ages
        for column in ("age_low", "age_high")
    )
    return np.stack([low, high], axis=1)


class Evaluation:
    """One set of predictions, what follows from it for each face, and the bootstrap draws that all its scores share.

    Args:
        baseline_age: the age the majority baseline always answers; None for the median of the labels themselves.

    Attributes:
        ages: (N,) whole years, -100 where unknown or known as a range. age_years, error: (N,) estimate, and its difference.
        has_age, has_gender, gender_correct: (N,) masks.
    """

    def __init__(
        self,
        predictions: Predictions,
        config: AgeGenderConfig,
        *,
        baseline_age: float | None = None,
        draws: int = 1000,
        seed: int = 0,
    ):
        self.predictions, self.config, self.baseline_age = predictions, config, baseline_age
        self.bootstrap = Bootstrap(predictions.groups, draws, seed)
        self.ages = exact_ages(predictions.age_labels)
        self.age_years = estimate_age(predictions.age_probs, config.age_estimate)
        self.error = self.age_years - self.ages
        self.has_age = self.ages != IGNORE_INDEX
        self.has_gender = predictions.gender_labels != IGNORE_INDEX
        self.gender_correct = predictions.gender_probs.argmax(axis=1) == predictions.gender_labels

    def score(self, statistic: Statistic, faces: np.ndarray) -> Score:
        """A statistic of the faces of an (N,) mask, each counted once, with its interval."""
        count = int(faces.sum())
        value = statistic(np.ones((1, count)))[0]
        low, high = self.bootstrap.interval(statistic, faces)
        return {"value": rounded(value), "low": rounded(low), "high": rounded(high), "n": count}

    def mean(self, values: np.ndarray, faces: np.ndarray) -> Score:
        """Mean of (N,) values over the faces of an (N,) mask; no interval where there are too few of them."""
        count = int(faces.sum())
        if count < MINIMUM_FOR_INTERVAL:
            return {"value": rounded(values[faces].mean()) if count else None, "low": None, "high": None, "n": count}
        return self.score(mean_of(values[faces].astype(np.float64)), faces)

    def share(self, holds: np.ndarray, faces: np.ndarray) -> Score:
        """Share of the masked faces for which (N,) `holds`, with Wilson's interval.

        For parts of a test split, which may be small: unlike the bootstrap it does not call five of five a certainty.
        """
        count = int(faces.sum())
        if not count:
            return {"value": None, "low": None, "high": None, "n": 0}
        test = binomtest(int(holds[faces].sum()), count)
        interval = test.proportion_ci(self.bootstrap.level, method="wilson")
        value, low, high = (rounded(share) for share in (test.statistic, interval.low, interval.high))
        return {"value": value, "low": low, "high": high, "n": count}

    def by_age(self, ranges: list[list[int]]) -> list[tuple[str, np.ndarray]]:
        """(label, mask of the faces whose exact age lies in it) for each range that has one."""
        labels = [age_range_label(low, high, self.config.max_age) for low, high in ranges]
        masks = [(self.ages >= low) & (self.ages <= high) for low, high in ranges]
        return [(label, mask) for label, mask in zip(labels, masks, strict=True) if mask.any()]


def rounded(value: float) -> float | None:
    """Five decimals are more than any test split can tell apart; None instead of NaN, which JSON does not know."""
    return round(float(value), 5) + 0.0 if np.isfinite(value) else None  # + 0.0: nor a negative zero


@dataclass(frozen=True)
class Framing:
    """How a picture is seen before it is cut: to measure what a careless crop costs.

    margin: how much more than the picture is seen, as a share of its side (below 0: less); past the edge its last
    pixels are repeated. rotation_degrees: anticlockwise.
    """

    margin: float = 0.0
    rotation_degrees: float = 0.0

    def apply(self, image_rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) -> (H, W, 3)."""
        if not self.margin and not self.rotation_degrees:
            return image_rgb
        height, width = image_rgb.shape[:2]
        center = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(center, self.rotation_degrees, 1 / (1 + self.margin))
        return cv2.warpAffine(
            image_rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


class _FaceCrops(torch.utils.data.Dataset):
    """Row number, whether a face was found, and the crop the model looks at (zeros where none was)."""

    def __init__(self, faces: Dataset, pipe: AgeGenderPipeline, detect: bool, framing: Framing):
        self.faces, self.pipe, self.detect, self.framing = faces, pipe, detect, framing

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[int, bool, torch.Tensor]:
        image_rgb = self.framing.apply(load_row_picture(self.faces[index]))
        found = self.pipe.preprocess(image_rgb, detect=self.detect)
        if not found.faces:
            size = self.pipe.model.config.image_size
            return index, False, torch.zeros(3, size, size)
        # a labelled picture is of one person: the largest face
        largest = max(range(len(found.faces)), key=lambda i: found.faces[i].width)
        return index, True, found.pixel_values[largest]


def predict(
    pipe: AgeGenderPipeline,
    faces: Dataset,
    accelerator: Accelerator,
    *,
    detect: bool = False,
    framing: Framing | None = None,
    batch_size: int = 64,
) -> tuple[Predictions, int]:
    """Predictions for the pictures of `faces`, and the number of pictures in which no face was found.

    Args:
        pipe: its model must be on the accelerator's device.
        faces: columns image, age, gender, race, group and, where ages are known as ranges, age_low and age_high.
        detect: find the face as the pipeline does; False takes each picture as a face crop.
    """
    crops = _FaceCrops(faces, pipe, detect, framing or Framing())
    loader = accelerator.prepare(DataLoader(crops, batch_size=batch_size))
    parts = []
    for rows, found, pixel_values in tqdm(loader, desc="Predicting", disable=not accelerator.is_main_process):
        with torch.inference_mode():
            output = pipe.model(pixel_values.to(pipe.model.dtype))
        gathered = accelerator.gather_for_metrics(
            (rows, found, output.age_logits.float(), output.gender_logits.float())
        )
        parts.append([values.cpu().numpy() for values in gathered])
    rows, found, age_logits, gender_logits = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(rows)
    order = order[found[order]]
    return Predictions.of(age_logits[order], gender_logits[order], faces.select(rows[order])), int((~found).sum())
