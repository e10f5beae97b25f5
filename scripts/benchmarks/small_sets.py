"""What fine-tuning on few faces makes of the calibration: with the fine-tuned model as prior, and by these faces alone.

    OMP_NUM_THREADS=1 python -m scripts.benchmarks.small_sets --dataset UTKFace.tar.gz --sharpness 1 1.5
    python -m scripts.benchmarks.small_sets --recipe trainer/recipes/fine_tune.yaml --dataset faces/

The first command trains nothing: it predicts the held-out faces of the model once, draws validation faces from them many
times, as many as a set of each size has, and measures on the others. `--sharpness` multiplies the logits: above 1, as if the
fine-tuning had made the model too confident. The second fine-tunes on each size and measures on the test split of the set.
"before" is what earlier versions did: no prior, and the surest tenth where the target is not proved.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accelerate import Accelerator

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import age_interval, conformal_mass, softmax
from model.losses_age_gender import IGNORE_INDEX
from model_card.metrics_text import markdown_table
from model_card.run_record import read_run_record
from scripts.benchmarks.measuring import load_pipeline
from scripts.command import errors_explained
from trainer.abstention import wilson_bounds
from trainer.arguments import Arguments
from trainer.calibration import fit_calibration, fit_temperature
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.evaluation.held_out import load_held_out
from trainer.evaluation.inference import predict
from trainer.evaluation.predictions import Predictions
from trainer.experiments.runs import train_once
from trainer.metrics import exact_ages
from trainer.recipe import RecipeError


SIZES = (60, 100, 300, 500, 2000, 5000)
VALIDATION_FRACTION = 0.1  # the default of the training
TARGET_ACCURACY = 0.95  # likewise


@dataclass(frozen=True)
class Faces:
    """Predictions for N faces, as (N, classes) logits up to a constant, and their labels, -100 where unknown."""

    age_logits: np.ndarray
    gender_logits: np.ndarray
    ages: np.ndarray
    genders: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions) -> "Faces":
        age_logits, gender_logits = (
            np.log(probs.clip(1e-300)) for probs in (predictions.age_probs, predictions.gender_probs)
        )
        return cls(age_logits, gender_logits, exact_ages(predictions.age_labels), predictions.gender_labels)

    def __len__(self) -> int:
        return len(self.ages)

    def select(self, rows: np.ndarray) -> "Faces":
        return Faces(self.age_logits[rows], self.gender_logits[rows], self.ages[rows], self.genders[rows])

    def scaled(self, age: float, gender: float) -> "Faces":
        """With the logits multiplied by these factors."""
        return replace(self, age_logits=self.age_logits * age, gender_logits=self.gender_logits * gender)


class Fitted(NamedTuple):
    """The figures of a calibration that decide what is measured here."""

    age_temperature: float
    gender_temperature: float
    interval_mass: float
    gender_threshold: float


def with_prior(faces: Faces, config: AgeGenderConfig) -> Fitted:
    """What `trainer.calibration` fits on `faces`."""
    labelled = (faces.age_logits, faces.gender_logits, faces.ages, faces.genders)
    calibration = fit_calibration(*labelled, config, TARGET_ACCURACY)
    return Fitted(*(getattr(calibration, name) for name in Fitted._fields))


def faces_alone(faces: Faces, config: AgeGenderConfig) -> Fitted:
    """What it fitted before: the same faces without a prior."""
    exact, known = faces.ages != IGNORE_INDEX, faces.genders != IGNORE_INDEX
    age_temperature = fit_temperature(faces.age_logits[exact], faces.ages[exact])
    gender_temperature = fit_temperature(faces.gender_logits[known], faces.genders[known])
    age_probs = softmax(faces.age_logits[exact] / age_temperature)
    mass, threshold = config.interval_mass, config.gender_threshold
    if exact.any():  # the rank used to be clipped to the number of faces
        coverage = min(config.interval_coverage, exact.sum() / (exact.sum() + 1))
        mass = conformal_mass(age_probs, faces.ages[exact], coverage)
    if known.any():
        probs = softmax(faces.gender_logits[known] / gender_temperature)
        order = np.argsort(-probs.max(axis=1))
        correct = np.cumsum((probs.argmax(axis=1) == faces.genders[known])[order])
        answered, tenth = np.arange(1, len(order) + 1), len(order) // 10
        reaching = np.flatnonzero(wilson_bounds(correct, answered)[0] >= TARGET_ACCURACY)
        is_reached = len(reaching) and reaching[-1] >= tenth
        last = reaching[-1] if is_reached else tenth + int((correct / answered)[tenth:].argmax())
        threshold = float(probs.max(axis=1)[order[last]])
    return Fitted(age_temperature, gender_temperature, mass, threshold)


FITS: dict[str, Callable[[Faces, AgeGenderConfig], Fitted]] = {"before": faces_alone, "after": with_prior}
COLUMNS = ("unsure", "answers correct", "ages in the interval")


def measure(fitted: Fitted, faces: Faces) -> list[float]:
    """Of `COLUMNS`, in percent: faces without a gender, correct ones among the genders given, labelled ages in the interval.

    NaN where no face has the label, or none is answered.
    """
    known, exact = faces.genders != IGNORE_INDEX, faces.ages != IGNORE_INDEX
    probs = softmax(faces.gender_logits[known] / fitted.gender_temperature)
    is_answered = probs.max(axis=1) >= fitted.gender_threshold
    is_correct = probs.argmax(axis=1) == faces.genders[known]
    low, high = age_interval(softmax(faces.age_logits[exact] / fitted.age_temperature), fitted.interval_mass).T
    covered = (low <= faces.ages[exact]) & (faces.ages[exact] <= high)
    shares = (~is_answered, is_correct[is_answered], covered)
    return [100 * float(share.mean()) if len(share) else float("nan") for share in shares]


def validation_faces(size: int) -> int:
    return round(VALIDATION_FRACTION * size)


def resample(
    faces: Faces, config: AgeGenderConfig, sizes: Sequence[int], draws: int
) -> dict[int, dict[str, np.ndarray]]:
    """{size: {"before" or "after": (draws, 3) percentages}}: fitted on faces drawn at random, measured on the others."""
    random = np.random.default_rng(0)
    measured: dict[int, dict[str, np.ndarray]] = {}
    for size in sizes:
        scores: dict[str, list[list[float]]] = {name: [] for name in FITS}
        for _ in range(draws):
            order = random.permutation(len(faces))
            fit_on, others = np.split(order, [validation_faces(size)])
            for name, fit in FITS.items():
                scores[name].append(measure(fit(faces.select(fit_on), config), faces.select(others)))
        measured[size] = {name: np.array(rows) for name, rows in scores.items()}
    return measured


def fine_tune(
    argv: Sequence[str], output_dir: Path, sizes: Sequence[int]
) -> tuple[dict[int, dict[str, np.ndarray]], dict[int, int]]:
    """Fine-tune on each size, unless that is done, and measure on the whole test split, which no size trains on.

    Returns:
        As `resample`, with one draw; and the number of validation faces of each size.
    """
    asked = Arguments.parse(argv)
    if not asked.model.finetune_from:
        raise RecipeError("This recipe fine-tunes no model: name one with --finetune_from.")
    config = AgeGenderConfig.from_pretrained(asked.model.finetune_from)
    test = load_faces(replace(asked.data, max_samples=None), seed=asked.data_seed)["test"]
    measured, validations = {}, {}
    for size in sizes:
        of_size = [*argv, "--max_samples", str(size)]
        folder = output_dir / str(size)
        train_once(of_size, folder)
        validation = load_faces(replace(asked.data, max_samples=size), seed=asked.data_seed)["validation"]
        record = read_run_record(folder)
        assert record is not None, "train_once leaves a finished run"
        pipe, fitted = load_pipeline(folder), record["calibration"]
        # what the trained network said before it was calibrated
        temperatures = (fitted["age_temperature"], fitted["gender_temperature"])
        accelerator = Accelerator(cpu=True)
        fit_on, others = (
            Faces.of(predict(pipe, split, accelerator)[0]).scaled(*temperatures) for split in (validation, test)
        )
        measured[size] = {name: np.array([measure(fit(fit_on, config), others)]) for name, fit in FITS.items()}
        validations[size] = len(fit_on)
    return measured, validations


def held_out_faces(model: Path, dataset: str, cache: Path) -> Faces:
    """Predictions for the test split of the model's own set; read from `cache` where an earlier call left them."""
    if not cache.exists():
        held_out = load_held_out(model, DataArguments(dataset=dataset), "test")
        faces = Faces.of(predict(load_pipeline(model), held_out.faces, Accelerator(cpu=True))[0])
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **vars(faces))
    return Faces(**np.load(cache))


def format_table(measured: dict[int, dict[str, np.ndarray]], validations: dict[int, int]) -> str:
    """Markdown: a row a size; the mean of each percentage over the draws, and in brackets that of the tenth with the worst."""
    header = ["faces", "for validation", *(f"{column}, {fit} (%)" for column in COLUMNS for fit in FITS)]
    rows = []
    for size, fits in measured.items():
        row = [f"{size:,}", f"{validations[size]:,}"]
        for column in range(len(COLUMNS)):
            for scores in fits.values():
                values = np.sort(scores[:, column])  # NaN comes last
                values = values[np.isfinite(values)]
                if not len(values):
                    row.append("-")
                    continue
                tenth = max(1, len(values) // 10)
                worst = values[-tenth:] if column == 0 else values[:tenth]
                row.append(f"{values.mean():.1f}" + (f" [{worst.mean():.1f}]" if len(values) > 1 else ""))
        rows.append(row)
    return markdown_table(header, rows)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmarks.small_sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", help="fine-tune by this recipe; further arguments override it")
    parser.add_argument(
        "--model", type=Path, default=Path("model"), help="without --recipe: predicts its own test faces"
    )
    parser.add_argument(
        "--dataset", required=True, help="the set that the model was trained on; with --recipe, own faces"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="faces in the set, a tenth for validation")
    parser.add_argument("--draws", type=int, default=100, help="of validation faces, without --recipe")
    parser.add_argument("--sharpness", type=float, nargs="+", default=[1.0], help="factors of the logits")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/small_sets"))
    args, of_recipe = parser.parse_known_args(argv)
    if args.recipe:
        measured, validations = fine_tune(
            [args.recipe, "--dataset", args.dataset, *of_recipe], args.output_dir, args.sizes
        )
        print(format_table(measured, validations))
        return
    if of_recipe:
        parser.error(f"{' '.join(of_recipe)}: these go to a --recipe")
    faces = held_out_faces(args.model, args.dataset, args.output_dir / "predictions.npz")
    too_large = [size for size in args.sizes if validation_faces(size) >= len(faces)]
    if too_large:
        parser.error(f"--sizes: {len(faces)} held-out faces are too few for a tenth of {max(too_large)}, and others.")
    config = AgeGenderConfig.from_pretrained(args.model)
    validations = {size: validation_faces(size) for size in args.sizes}
    for sharpness in args.sharpness:
        measured = resample(faces.scaled(sharpness, sharpness), config, args.sizes, args.draws)
        print(f"\nlogits x {sharpness:g}, {len(faces):,} faces, {args.draws} draws of the validation faces:\n")
        print(format_table(measured, validations))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
