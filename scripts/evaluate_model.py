"""Measure a model on labelled faces: `metrics.json` and figures in its folder, and a table to read.

    python -m scripts.evaluate_model --model model --dataset UTKFace.tar.gz --split test

`accelerate launch -m scripts.evaluate_model ...` shares the pictures among several processes.
"""

import importlib.metadata
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset, DatasetDict, concatenate_datasets
from huggingface_hub import snapshot_download
from transformers import AutoImageProcessor, HfArgumentParser

from model.modeling_age_gender import IGNORE_INDEX, AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.figures import draw_figures
from scripts.model_folder import WEIGHTS, sha256
from trainer.data import DataArguments, load_faces
from trainer.evaluation import Evaluation
from trainer.group_scores import score_groups, worst_groups
from trainer.metrics import AgeGenderMetric
from trainer.metrics_table import format_metrics
from trainer.prediction import Framing, predict
from trainer.run_record import describe_splits, public_name


PACKAGES = ("torch", "transformers", "datasets", "evaluate", "scikit-learn", "numpy", "opencv-python-headless")
FRAMINGS = (
    *(Framing(margin=margin) for margin in (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)),
    *(Framing(rotation_degrees=degrees) for degrees in (-20.0, -10.0, 10.0, 20.0)),
)


class EvaluationError(ValueError):
    """The evaluation cannot be done as asked; the message says what to do."""


@dataclass
class EvaluationArguments:
    """What is measured, and where the result goes."""

    model: str = field(default="model", metadata={"help": "Folder or Hub id of the model."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub id."})
    split: str = field(default="test", metadata={"help": "train, validation, test, or 'all' of them."})
    split_seed: int | None = field(
        default=None, metadata={"help": "Seed of the split; the one of the model's training run unless given."}
    )
    outside: str | None = field(
        default=None,
        metadata={
            "help": "Name of a set that the model was neither trained nor chosen on: its figures are added to the "
            "metrics.json of the model's own test split."
        },
    )
    detect: bool = field(
        default=False, metadata={"help": "Find the face in each picture, as the pipeline does; else it is a crop."}
    )
    crop_sweep: bool = field(default=False, metadata={"help": "Also measure with wider, narrower and rotated crops."})
    batch_size: int = field(default=64, metadata={"help": "Faces in one forward pass."})
    draws: int = field(default=1000, metadata={"help": "Bootstrap resamples behind each interval."})
    output_dir: str | None = field(default=None, metadata={"help": "Where to write; the model's folder unless given."})


def evaluate_model(args: EvaluationArguments, data_args: DataArguments) -> dict[str, Any]:
    """Measure, write `metrics.json` and the figures, and return what was measured.

    Raises:
        EvaluationError: nowhere to write, no such split, a split that overlaps the training pictures, no face found, or
            an outside set for weights that have no figures of their own.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    folder, output_dir = find_model(args)
    run_file = folder / "training_run.json"
    run = json.loads(run_file.read_text()) if run_file.exists() else None
    if run and "splits_sha256" not in run.get("data", {}):
        raise EvaluationError(f"{run_file} does not say which pictures the model was trained on. Remove it to go on.")
    seed = run["data"]["seed"] if run and args.split_seed is None else args.split_seed or 0
    with accelerator.main_process_first():
        splits = load_faces(data_args, seed=seed)
    if run and not args.outside:
        check_held_out(splits, data_args, run)
    faces = choose_split(splits, args.split)
    pipe = AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(folder),
        image_processor=AutoImageProcessor.from_pretrained(folder),
        device=accelerator.device,
    )
    predictions, without_face = predict(pipe, faces, accelerator, detect=args.detect, batch_size=args.batch_size)
    if not len(predictions):
        raise EvaluationError(f"No face was found in {len(faces)} pictures. If they are crops, leave out --detect.")
    evaluation = Evaluation(
        predictions, pipe.model.config, baseline_age=median_age(splits["train"]), draws=args.draws, seed=seed
    )
    groups = score_groups(evaluation)
    metrics = {
        "weights_sha256": sha256(folder / WEIGHTS),
        "model": folder.resolve().name if folder == Path(args.model) else args.model,
        "dataset": public_name(data_args.dataset),
        "split": args.split,
        "split_seed": seed,
        **describe_splits(splits),
        "pictures": len(faces),
        "framing": "faces detected and aligned by the pipeline" if args.detect else "face crops as they are",
        "pictures_without_detected_face": without_face if args.detect else None,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        **evaluation.report(),
        "groups": groups,
        "worst_group": worst_groups(groups),
    }
    if args.crop_sweep:
        metrics["crop_sweep"] = sweep_framings(pipe, faces, accelerator, args.batch_size)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        if args.outside:
            add_outside_set(output_dir / "metrics.json", args.outside, metrics)
        else:
            kept = previous_metrics(output_dir / "metrics.json", metrics["weights_sha256"]).get("outside", {})
            write_json(output_dir / "metrics.json", metrics | ({"outside": kept} if kept else {}))
            draw_figures(evaluation, metrics, run["log_history"] if run else [], output_dir / "figures")
        print(format_metrics(metrics))
    accelerator.wait_for_everyone()
    return metrics


def find_model(args: EvaluationArguments) -> tuple[Path, Path]:
    """The folder that holds the model, fetched from the Hub if need be, and the folder to write to."""
    if Path(args.model).is_dir():
        return Path(args.model), Path(args.output_dir or args.model)
    if args.output_dir is None:
        raise EvaluationError(
            f"{args.model} is not a folder here. If it is a Hub id, add --output-dir: its figures need a place."
        )
    return Path(snapshot_download(args.model, revision=args.model_revision)), Path(args.output_dir)


def check_held_out(splits: DatasetDict, data_args: DataArguments, run: dict[str, Any]) -> None:
    """Raise `EvaluationError` unless these are the very splits of the training run."""
    if describe_splits(splits)["splits_sha256"] == run["data"]["splits_sha256"]:
        return
    used = {name: run["arguments"][name] for name in vars(data_args) if name in run["arguments"]}
    differing = {name: value for name, value in used.items() if getattr(data_args, name) != value}
    hint = " ".join(f"--{name} {value}" for name, value in differing.items() if value is not None)
    raise EvaluationError(
        "This model was trained on other splits: these pictures may be among its training pictures. Name a set it was "
        f"never trained on with --outside, or give the splits of its run: {hint or 'the same pictures'}."
    )


def choose_split(splits: DatasetDict, name: str) -> Dataset:
    if name == "all":
        return concatenate_datasets(list(splits.values()))
    if name not in splits:
        raise EvaluationError(f"There is no split {name!r} here: choose one of {', '.join(splits)}, or all.")
    return splits[name]


def median_age(train: Dataset) -> float | None:
    """The age that minimises the error of always answering the same; None where no exact age is known."""
    ages = np.array(train["age"])
    known = ages[ages != IGNORE_INDEX]
    return float(np.median(known)) if len(known) else None


def sweep_framings(pipe: AgeGenderPipeline, faces: Dataset, accelerator: Accelerator, batch_size: int) -> list[dict]:
    """Age MAE and gender accuracy when every crop is wider, narrower or rotated."""
    rows = []
    for framing in FRAMINGS:
        predictions, _ = predict(pipe, faces, accelerator, framing=framing, batch_size=batch_size)
        scores = AgeGenderMetric(pipe.model.config).compute(
            age_probs=predictions.age_probs,
            gender_probs=predictions.gender_probs,
            age_labels=predictions.age_labels,
            gender_labels=predictions.gender_labels,
        )
        kept = {name: round(scores[name], 5) for name in ("age_mae", "gender_accuracy") if name in scores}
        rows.append({"margin": framing.margin, "rotation_degrees": framing.rotation_degrees, **kept})
    return rows


def add_outside_set(path: Path, name: str, metrics: dict[str, Any]) -> None:
    """Put `metrics` under "outside" in the model's own metrics.json, if that is of the same weights."""
    own = previous_metrics(path, metrics["weights_sha256"])
    if not own:
        raise EvaluationError(
            f"{path} holds no figures of these weights to add {name} to: evaluate the model's own test split first."
        )
    shared = ("weights_sha256", "model", "versions")
    own.setdefault("outside", {})[name] = {key: value for key, value in metrics.items() if key not in shared}
    write_json(path, own)


def previous_metrics(path: Path, weights_sha256: str) -> dict[str, Any]:
    """What an earlier evaluation of the same weights wrote; empty if there was none."""
    previous = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return previous if previous.get("weights_sha256") == weights_sha256 else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    # allow_nan=False: a NaN would make a file that other languages cannot read
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = HfArgumentParser([EvaluationArguments, DataArguments], allow_abbrev=False, description=__doc__)
    try:
        evaluate_model(*parser.parse_args_into_dataclasses())
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
