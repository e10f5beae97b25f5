"""Compare an exported network with the model: file size, largest difference of the logits, change of the scores."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from model.configuration_age_gender import AgeGenderConfig
from model.exported_age_gender import OUTPUTS, AgeGenderOnnxModel
from model.modeling_age_gender import AgeGenderModel
from model_card.metrics_text import Score
from model_card.requirements import sha256
from trainer.evaluation.predictions import Evaluation, Predictions


def run_all(
    models: dict[str, AgeGenderModel | AgeGenderOnnxModel], batches: Iterable[torch.Tensor]
) -> dict[str, dict[str, np.ndarray]]:
    """{model: {output: (N, outputs) logits}} on the same batches of (B, 3, image_size, image_size)."""
    parts: dict[str, dict[str, list[np.ndarray]]] = {name: {output: [] for output in OUTPUTS} for name in models}
    with torch.inference_mode():
        for pixel_values in batches:
            for name, model in models.items():
                result = model(pixel_values)
                for output in OUTPUTS:
                    parts[name][output].append(result[output].numpy())
    return {
        name: {output: np.concatenate(arrays) for output, arrays in outputs.items()} for name, outputs in parts.items()
    }


def largest_difference(logits: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(logits[output] - others[output]).max()) for output in OUTPUTS)


def compare(
    logits: dict[str, dict[str, np.ndarray]], name: str, path: Path, faces: Dataset | None, config: AgeGenderConfig
) -> dict[str, Any]:
    """Size and hash of a file, and how its outputs differ from torch's: in the logits and, on faces, in the scores.

    Args:
        logits: of "torch" and of `name`, as `run_all` returns them.
        faces: the labelled faces that they are of; None for random inputs.
    """
    comparison: dict[str, Any] = {
        "sha256": sha256(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "largest_difference": largest_difference(logits["torch"], logits[name]),
    }
    if faces is None:
        return comparison
    before, after = (evaluate(logits[which], faces, config) for which in ("torch", name))
    if before.has_age.any():
        comparison["age_mae"] = change(before, np.abs(before.error), np.abs(after.error), before.has_age)
    if before.has_gender.any():
        comparison["gender_accuracy"] = change(before, before.gender_correct, after.gender_correct, before.has_gender)
    return comparison


def evaluate(logits: dict[str, np.ndarray], faces: Dataset, config: AgeGenderConfig) -> Evaluation:
    return Evaluation(Predictions.of(logits["age_logits"], logits["gender_logits"], faces), config)


def change(evaluation: Evaluation, before: np.ndarray, after: np.ndarray, faces: np.ndarray) -> dict[str, Score]:
    """Means of (N,) values over the masked faces, and of their paired differences."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    return {
        "before": evaluation.mean(before, faces),
        "after": evaluation.mean(after, faces),
        "change": evaluation.mean(after - before, faces),
    }


def print_comparison(comparison: dict[str, Any], on_what: str) -> None:
    """Print what `compare` found for each file; `on_what`: the inputs, such as "12 faces"."""
    for name, file in comparison["files"].items():
        print(f"{name}: {file['megabytes']} MB, logits within {file['largest_difference']:.1e} of torch's on {on_what}")
        for metric, unit, scale in (("age_mae", "years", 1), ("gender_accuracy", "%", 100)):
            if metric in file:
                before, after, change = (scale * file[metric][part]["value"] for part in ("before", "after", "change"))
                print(f"    {metric}: {before:.3f} -> {after:.3f} {unit} ({change:+.3f})")
