"""A run goes on with as many pictures a step and steps an epoch as it was begun with, on however many processes."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import Trainer, TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import has_length

from trainer.checkpoints import STATE, CheckpointError


class GlobalBatch(TrainerCallback, ExportableState):
    """Remembers in every checkpoint how many pictures a step takes and an epoch steps, and compares when a run goes on.

    With other steps an epoch the Trainer would take the checkpoint for one of another epoch, without a word.
    """

    def __init__(self):
        self.size = self.steps = 0

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """
        Raises:
            CheckpointError: the run was begun with steps of another size, or another number of them an epoch.
        """
        self.size = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        # 0 of a stream, whose length nobody knows
        self.steps = (
            -(-len(train_dataloader) // args.gradient_accumulation_steps) if has_length(train_dataloader) else 0
        )
        # 0 in checkpoints of older versions; of a new training it is what the trainer's last one had
        saved = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {})
        begun, begun_steps = saved.get("size", 0), saved.get("steps", 0)
        state.stateful_callbacks[type(self).__name__] = self.state()
        if state.global_step and begun not in (0, self.size):
            raise CheckpointError(
                f"The run was begun with a global batch of {begun}, this start has {self.size} (processes x "
                f"per_device_train_batch_size x gradient_accumulation_steps = {args.world_size} x "
                f"{args.train_batch_size} x {args.gradient_accumulation_steps}). Change one so that it is {begun} again."
            )
        if state.global_step and begun_steps not in (0, self.steps):
            raise CheckpointError(
                f"The run was begun with {begun_steps} steps an epoch, this start has {self.steps}: other pictures are "
                "trained on (dataset, max_samples, also_train_on, repeat), or dataloader_drop_last differs."
            )

    def state(self) -> dict:
        return {"args": {}, "attributes": {"size": self.size, "steps": self.steps}}


class RunCost(TrainerCallback, ExportableState):
    """Counts from its making on. As a callback it is written into every checkpoint, where the next start finds it."""

    def __init__(self, beginning: dict[str, Any], checkpoint: str | None = None):
        """
        Args:
            beginning: what this start was begun with. A run is described by its first start's.
            checkpoint: where the run goes on from; what was done after it and lost is not counted.
        """
        self._before = _saved_in(checkpoint) if checkpoint else {}
        self.beginning = self._before.get("beginning", beginning)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.monotonic()

    def total(self) -> dict:
        """`started` (the first time), `starts` and `seconds`."""
        return {
            "started": self._before.get("started", self._started),
            "starts": self._before.get("starts", 0) + 1,
            "seconds": round(self._before.get("seconds", 0) + time.monotonic() - self._start),
        }

    def state(self) -> dict:
        return {"args": {}, "attributes": self.total() | {"beginning": self.beginning}}


def _saved_in(checkpoint: str) -> dict:
    callbacks = json.loads(Path(checkpoint, STATE).read_text())["stateful_callbacks"]
    return callbacks.get(RunCost.__name__, {}).get("attributes", {})


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
