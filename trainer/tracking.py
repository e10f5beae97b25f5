"""What the trackers of `report_to` do not get from the Trainer: the scores of every group, and the figures.

The Trainer logs both heads' losses and the validation scores while it trains, to any tracker that it knows. This adds
the finished run's report to the run that TensorBoard, MLflow or trackio already has; other trackers do not get it.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Trainer
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback


_MLFLOW_BATCH = 1000  # as many as it takes at once


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
    """Send the scores in `folder`/metrics.json and `folder`/figures/*.png to the run's TensorBoard, MLflow and trackio."""
    scalars = report_scalars(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    figures = sorted((folder / "figures").glob("*.png"))
    step, args = trainer.state.global_step, trainer.args
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            _to_tensorboard(callback.logging_dir, scalars, figures, step)
        elif isinstance(callback, MLflowCallback):
            _to_mlflow(scalars, figures, step)
        elif isinstance(callback, TrackioCallback):
            _to_trackio({"project": args.project, "name": args.run_name}, args.trackio_space_id, scalars, figures)


def _to_tensorboard(logging_dir: str, scalars: dict[str, float], figures: list[Path], step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(logging_dir) as writer:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
        for path in figures:
            writer.add_image(f"figures/{path.stem}", _pixels(path), step, dataformats="HWC")


def _to_mlflow(scalars: dict[str, float], figures: list[Path], step: int) -> None:
    import mlflow

    run = mlflow.active_run() or mlflow.last_active_run()  # the Trainer closes its run when the training ends
    client = mlflow.MlflowClient()
    now = int(time.time() * 1000)
    names = {name: re.sub(r"[^\w\-. :/]", "_", name) for name in scalars}  # MLflow refuses other characters
    values = [mlflow.entities.Metric(names[name], value, now, step) for name, value in scalars.items()]
    for start in range(0, len(values), _MLFLOW_BATCH):
        client.log_batch(run.info.run_id, values[start : start + _MLFLOW_BATCH])
    for path in figures:
        client.log_artifact(run.info.run_id, str(path), "figures")


def _to_trackio(run: dict[str, str], space_id: str | None, scalars: dict[str, float], figures: list[Path]) -> None:
    import trackio

    trackio.init(**run, space_id=space_id, resume="allow", embed=False)
    trackio.log(scalars | {f"figures/{path.stem}": trackio.Image(path) for path in figures})
    trackio.finish()


def _pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
