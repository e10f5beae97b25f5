"""Evaluate a model's folder on labelled faces: write metrics.json and figures into it, and print a report."""

import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from model.configuration_age_gender import AgeGenderConfig
from model.losses_age_gender import IGNORE_INDEX
from model.model_files import check_parsed_files, load_image_processor
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.metrics_text import format_metrics
from model_card.output_files import write_atomically
from model_card.requirements import METRICS, NETWORK_FILES, WEIGHTS, sha256
from trainer.data.arguments import DataArguments
from trainer.evaluation.figures import draw_figures
from trainer.evaluation.held_out import EvaluationError, HeldOut, load_external, load_held_out
from trainer.evaluation.inference import Framing, network_cost, predict
from trainer.evaluation.predictions import Evaluation
from trainer.evaluation.scores import report_scores, score_interval
from trainer.run_record import describe_splits, public_name


PACKAGES = ("torch", "transformers", "datasets", "evaluate", "scikit-learn", "numpy", "opencv-python-headless")
# One direction beyond 20 degrees: the mirror image of a face is a face.
SWEPT_DEGREES = (-20.0, -10.0, 10.0, 20.0, 45.0, 90.0, 135.0, 180.0)
FRAMINGS = (
    *(Framing(margin=margin) for margin in (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)),
    *(Framing(rotation_degrees=degrees) for degrees in SWEPT_DEGREES),
    *(Framing(pixels=pixels) for pixels in (48, 32, 24, 16)),
    *(Framing(blur=blur) for blur in (0.015, 0.03, 0.05)),
)


@dataclass
class EvaluationArguments:
    """What is evaluated, and where the result goes."""

    model: str = field(default="model", metadata={"help": "Folder or Hub id of the model."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub id."})
    split: str = field(
        default="test",
        metadata={"help": "train, validation, test, or 'all': every picture (with --external also the duplicates)."},
    )
    split_seed: int | None = field(
        default=None, metadata={"help": "Seed of the split; the one of the model's training run unless given."}
    )
    external: str | None = field(
        default=None,
        metadata={
            "help": "Name of an external test set, whose scores are added to the metrics.json of the model's own test split. "
            "The model must not have been trained or chosen on it (--split all), or must have been trained on the training "
            "split of it (--split test)."
        },
    )
    detect: bool = field(
        default=False,
        metadata={"help": "Detect the face in each picture, as the pipeline does; else the picture is a face crop."},
    )
    crop_sweep: bool = field(
        default=False, metadata={"help": "Also evaluate with wider, narrower, rotated, small and blurred crops."}
    )
    batch_size: int = field(default=64, metadata={"help": "Faces in one forward pass."})
    draws: int = field(default=1000, metadata={"help": "Bootstrap resamples behind each interval."})
    output_dir: str | None = field(default=None, metadata={"help": "Where to write; the model's folder unless given."})


def evaluate_model(args: EvaluationArguments, data_args: DataArguments) -> dict[str, Any]:
    """Evaluate, write `metrics.json` and the figures, and return what was measured.

    Raises:
        EvaluationError: no model, nowhere to write, no such split, a split that overlaps the training pictures, no face
            found, or an external test set for weights that have no metrics of their own.
        DatasetError: the faces cannot be read.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    folder, output_dir = _find_model(args)
    own = _own_metrics(folder, output_dir) if args.external else {}
    load = load_external if args.external else load_held_out
    with accelerator.main_process_first():
        held_out = load(folder, data_args, args.split, args.split_seed)
    faces = held_out.faces
    model = AgeGenderModel.from_pretrained(folder)
    pipe = AgeGenderPipeline(
        model=model,
        image_processor=load_image_processor(folder),
        device=accelerator.device,
    )
    predictions, without_face = predict(pipe, faces, accelerator, detect=args.detect, batch_size=args.batch_size)
    if not len(predictions):
        raise EvaluationError(f"No face was found in {len(faces)} pictures. If they are crops, leave out --detect.")
    baseline_age = None if args.external else _median_age(held_out.splits["train"])
    evaluation = Evaluation(predictions, model.config, baseline_age=baseline_age, draws=args.draws, seed=held_out.seed)
    metrics = _describe_measurement(args, data_args, folder, held_out, without_face) | report_scores(evaluation)
    if args.crop_sweep:
        metrics["crop_sweep"] = _sweep_framings(pipe, model.config, faces, accelerator, args)
    if accelerator.is_main_process:  # while the others wait: nothing else may run while the network is timed
        megabytes = round((folder / WEIGHTS).stat().st_size / 1e6, 1)
        metrics["network"] = {"megabytes": megabytes} | network_cost(model)
        output_dir.mkdir(parents=True, exist_ok=True)
        if args.external:
            written = _with_external(own, args.external, metrics)
        else:
            written = metrics = _with_earlier(metrics, output_dir / METRICS)
            log_history = held_out.run["log_history"] if held_out.run else []
            draw_figures(evaluation, metrics, log_history, output_dir / "figures")
        # Last, so that a folder with metrics is complete. A NaN would make a file that other languages cannot read.
        text = json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(output_dir / METRICS, text + "\n")
        print(format_metrics(metrics, (held_out.run or {}).get("calibration")))
    accelerator.wait_for_everyone()
    return metrics


def _find_model(args: EvaluationArguments) -> tuple[Path, Path]:
    """The folder that holds the model, downloaded from the Hub if need be, and the folder to write to."""
    folder = Path(args.model)
    if not folder.is_dir():
        if args.output_dir is None:
            raise EvaluationError(
                f"{args.model} is not a folder here. If it is a Hub id, add --output_dir: its metrics need a place."
            )
        check_parsed_files(args.model, args.model_revision)
        try:
            folder = Path(snapshot_download(args.model, revision=args.model_revision))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise EvaluationError(
                f"{args.model} is neither a folder here nor a model that can be read from the Hub: {error}"
            ) from error
    missing = [name for name in NETWORK_FILES if not (folder / name).is_file()]
    if missing:
        raise EvaluationError(f"{folder} holds no trained model: {', '.join(missing)} is missing.")
    return folder, Path(args.output_dir or folder)


def _describe_measurement(
    args: EvaluationArguments, data_args: DataArguments, folder: Path, held_out: HeldOut, without_face: int
) -> dict[str, Any]:
    """The part of `metrics.json` that says which weights were evaluated, on which faces, and how."""
    return {
        "weights_sha256": sha256(folder / WEIGHTS),
        "model": folder.resolve().name if folder == Path(args.model) else args.model,
        "dataset": public_name(data_args.dataset),
        "split": args.split,
        "split_seed": held_out.seed,
        **describe_splits(held_out.splits),
        "pictures": len(held_out.faces),
        "framing": "faces detected and aligned by the pipeline" if args.detect else "face crops as they are",
        "pictures_without_detected_face": without_face if args.detect else None,
        **({"held_out_of_training": held_out.of_a_trained_set} if args.external else {}),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _median_age(train: Dataset) -> float | None:
    """Years that the median baseline predicts for every face; None where no exact age is known."""
    ages = np.array(train["age"])
    known = ages[ages != IGNORE_INDEX]
    return float(np.median(known)) if len(known) else None


def _sweep_framings(
    pipe: AgeGenderPipeline,
    config: AgeGenderConfig,
    faces: Dataset,
    accelerator: Accelerator,
    args: EvaluationArguments,
) -> list[dict[str, Any]]:
    """Age MAE, age interval and gender accuracy when every crop is changed by one of `FRAMINGS`."""
    rows = []
    for framing in FRAMINGS:
        predictions, _ = predict(pipe, faces, accelerator, framing=framing, batch_size=args.batch_size)
        evaluation = Evaluation(predictions, config, draws=args.draws)
        row: dict[str, Any] = asdict(framing)
        if evaluation.has_age.any():
            row["age_mae"] = evaluation.mean(np.abs(evaluation.error), evaluation.has_age)
            row["age_interval"] = score_interval(evaluation, evaluation.has_age)
        if evaluation.has_gender.any():
            row["gender_accuracy"] = evaluation.mean(1.0 * evaluation.gender_correct, evaluation.has_gender)
        rows.append(row)
    return rows


def _own_metrics(folder: Path, output_dir: Path) -> dict[str, Any]:
    """`metrics.json` of these weights, in the output folder or else the model's, to add an external test set to."""
    weights_sha256 = sha256(folder / WEIGHTS)
    for path in (output_dir / METRICS, folder / METRICS):
        if own := _earlier_metrics(path, weights_sha256):
            return own
    raise EvaluationError(
        f"{output_dir} holds no metrics of these weights to add an external test set to: evaluate the model's own test split "
        "first."
    )


def _earlier_metrics(path: Path, weights_sha256: str) -> dict[str, Any]:
    """What an earlier evaluation of the same weights wrote; empty if there was none."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return earlier if earlier.get("weights_sha256") == weights_sha256 else {}


def _with_external(own: dict[str, Any], name: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """The model's own metrics, with those of an external test set under "outside"."""
    shared = ("weights_sha256", "model", "versions", "network")
    external = {key: value for key, value in metrics.items() if key not in shared}
    return own | {"outside": own.get("outside", {}) | {name: external}}


def _with_earlier(metrics: dict[str, Any], path: Path) -> dict[str, Any]:
    """The metrics, with the external test sets and, for the same faces, the crop sweep of an earlier evaluation."""
    earlier = _earlier_metrics(path, metrics["weights_sha256"])
    is_same = all(earlier.get(name) == metrics[name] for name in ("split", "splits_sha256"))
    kept = ("outside", "crop_sweep") if is_same else ("outside",)
    return {name: earlier[name] for name in kept if name in earlier} | metrics
