"""What an evaluation adds to the trackers of `report_to`: the scores of `metrics.json` and the figures."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Trainer, TrainingArguments
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback


def report_scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """`metrics.json` -> {name: value}: "test/age_mae", "test groups/White, male/gender_accuracy" and so on."""
    split = metrics["split"]
    scores = {f"{name} accuracy": ranges["accuracy"] for name, ranges in metrics["age_ranges"].items()}
    if "age" in metrics:
        scores["age_mae"] = metrics["age"]["mae"]
    if "gender" in metrics:
        scores["gender_accuracy"] = metrics["gender"]["accuracy"]
    scalars = {f"{split}/{name}": score["value"] for name, score in scores.items()}
    for group in metrics["groups"]:
        name = ", ".join(group[factor] for factor in group["by"].split(" x "))
        for metric in ("age_mae", "gender_accuracy"):
            scalars[f"{split} groups/{name}/{metric}"] = group[metric]["value"]
    return {name: value for name, value in scalars.items() if value is not None}


def track_report(trainer: Trainer, folder: Path) -> None:
    """Send the scores in `folder`/metrics.json and `folder`/figures/*.png to the run's TensorBoard, MLflow and trackio.

    The training has ended: the Trainer's callbacks have closed their runs, so each is opened again.
    """
    scalars = report_scalars(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    figures = sorted((folder / "figures").glob("*.png"))
    step, args = trainer.state.global_step, trainer.args
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            _to_tensorboard(callback.logging_dir, scalars, figures, step)
        elif isinstance(callback, MLflowCallback):
            _to_mlflow(scalars, figures, step)
        elif isinstance(callback, TrackioCallback):
            _to_trackio(args, scalars, figures)


# Trackers are imported where they are used: each is installed only by those who report to it.


def _to_tensorboard(logging_dir: str | None, scalars: Mapping[str, float], figures: Sequence[Path], step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(logging_dir) as writer:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
        for path in figures:
            with Image.open(path) as image:
                writer.add_image(f"figures/{path.stem}", np.asarray(image.convert("RGB")), step, dataformats="HWC")


def _to_mlflow(scalars: Mapping[str, float], figures: Sequence[Path], step: int) -> None:
    import mlflow

    run = mlflow.last_active_run()
    assert run is not None, "MLflowCallback has opened one"
    # MLflow refuses other characters
    values = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in scalars.items()}
    mlflow.log_metrics(values, step, run_id=run.info.run_id)
    for path in figures:
        mlflow.log_artifact(str(path), "figures", run_id=run.info.run_id)


def _to_trackio(args: TrainingArguments, scalars: Mapping[str, float], figures: Sequence[Path]) -> None:
    import trackio

    trackio.init(args.project, args.run_name, space_id=args.trackio_space_id, resume="allow", embed=False)
    trackio.log({**scalars, **{f"figures/{path.stem}": trackio.Image(path) for path in figures}})
    trackio.finish()
