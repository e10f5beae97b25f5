"""Check that several processes, and a resumed run, train as one undisturbed process does.

    python -m scripts.benchmarks.check_training trainer/recipes/smoke.yaml --dataset UTKFace.tar.gz --max_samples 1500
    python -m scripts.benchmarks.check_training RECIPE --processes 8 \\
        --config_file trainer/accelerate/multi_gpu.yaml --use_cpu false

Trains the recipe three times for two epochs: in one process; in several on the same global batch, by `accelerate
launch`; and in one that is killed with SIGKILL in the second epoch and resumes from its last whole checkpoint. All train
in fp32 without augmentation, since each process draws its own. The losses of every step and the final weights then differ
only by the order of additions. Writes curves.md and curves.png; exits with 1 if they differ by more.

A network with batch normalisation (a ResNet, or the convolutional stem of vit_64px.yaml) normalises each process's part
of the batch by itself, so several processes do not agree with one: by 0.2 % of a loss with vit_64px.yaml and two.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from model.errors import AgeGenderError
from model_card.metrics_text import markdown_table
from model_card.run_record import RUN_RECORD
from scripts.command import errors_explained
from trainer.arguments import ARGUMENT_CLASSES, Arguments
from trainer.checkpoints import last_whole_checkpoint
from trainer.data.transforms import AugmentationArguments
from trainer.experiments.runs import start_experiment
from trainer.recipe import RecipeError, parse_recipe


EPOCHS = 2


class CheckError(AgeGenderError):
    """A training of the check failed."""


@dataclass(frozen=True)
class Curve:
    """A finished run: the loss of each step, the last validation scores and the weights."""

    name: str
    losses: np.ndarray
    scores: dict[str, float]
    weights: dict[str, np.ndarray]

    @classmethod
    def read(cls, name: str, folder: Path) -> "Curve":
        log = json.loads((folder / RUN_RECORD).read_text())["log_history"]
        losses = np.array([entry["loss"] for entry in log if "loss" in entry])
        scores = [entry for entry in log if "eval_loss" in entry][-1]
        return cls(name, losses, scores, load_file(folder / "model.safetensors"))

    def difference(self, other: "Curve") -> float:
        """The largest relative difference of a step's loss; infinite where the numbers of steps differ."""
        if len(self.losses) != len(other.losses):
            return float("inf")
        return float(np.max(np.abs(self.losses - other.losses) / np.abs(other.losses)))

    def weight_difference(self, other: "Curve") -> float:
        """The largest difference of any weight."""
        return max(float(np.max(np.abs(self.weights[name] - weights))) for name, weights in other.weights.items())


def command(argv: Sequence[str], output_dir: Path, batch: int, launcher: Sequence[str] = ()) -> list[str]:
    """The command of a training without what differs between numbers of processes by more than rounding.

    Args:
        batch: pictures a step in each process.
    """
    changes = {field.name: 0 for field in fields(AugmentationArguments)} | {"head_dropout": 0, "bf16": "false"}
    changes |= {"dataloader_drop_last": "true", "num_train_epochs": EPOCHS, "logging_steps": 1, "report_to": "none"}
    changes |= {"save_strategy": "epoch", "eval_strategy": "epoch", "report": "false", "disable_tqdm": "true"}
    changes |= {"output_dir": output_dir, "per_device_train_batch_size": batch, "resume_from_checkpoint": "true"}
    words = [f"--{name}={value}" for name, value in changes.items()]
    return [sys.executable, "-m", *launcher, "trainer.train", *argv, *words]


def run(command: Sequence[str], *, kill_after: int | None = None) -> None:
    """Run a command to its end, or kill it and its child processes after `kill_after` logged losses.

    Raises:
        CheckError: it failed; the message ends with what it printed last.
    """
    # one thread: with another number of threads, sums are rounded differently
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if "accelerate.commands.launch" not in command:
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    printed: deque[str] = deque(maxlen=20)
    logged = 0
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,  # a process group of its own, to be killed as a whole
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            logged += "'loss'" in line
            if "'loss'" in line and logged == kill_after:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != (-signal.SIGKILL if kill_after else 0):
        raise CheckError(f"`{shlex.join(command)}` ended with {process.returncode}:\n{''.join(printed)}")


def check(own: argparse.Namespace, argv: Sequence[str]) -> list[Curve]:
    """Train the three, except those that an earlier call has trained."""
    recipe = Arguments(*parse_recipe(argv, ARGUMENT_CLASSES))
    start_experiment(own.output_dir, {"check": recipe}, processes=own.processes, config_file=str(own.config_file))
    batch = recipe.training.per_device_train_batch_size
    if batch % own.processes:
        raise RecipeError(
            f"A batch of {batch} cannot be shared by {own.processes} processes evenly. Choose another number."
        )
    one, several, killed = (own.output_dir / name for name in ("one", "several", "killed"))
    if not (one / RUN_RECORD).exists():
        run(command(argv, one, batch))
    if not (several / RUN_RECORD).exists():
        launcher = ["accelerate.commands.launch", "--config_file", str(own.config_file)]
        launcher += ["--num_processes", str(own.processes), "-m"]
        run(command(argv, several, batch // own.processes, launcher))
    curve = Curve.read("one process", one)
    if not (killed / RUN_RECORD).exists():
        checkpoints = Path(f"{killed}.checkpoints")
        for half_done in (killed, checkpoints):
            shutil.rmtree(half_done, ignore_errors=True)
        steps = len(curve.losses)
        run(command(argv, killed, batch), kill_after=steps * 3 // 4)
        last = last_whole_checkpoint(checkpoints)
        print(f"Killed after step {steps * 3 // 4} of {steps}; resumes from {last.name if last else 'the beginning'}.")
        run(command(argv, killed, batch))
    return [curve, Curve.read(f"{own.processes} processes", several), Curve.read("killed and resumed", killed)]


def agree(curves: Sequence[Curve], tolerance: float) -> bool:
    """Print and return whether the losses agree to `tolerance`, and the weights, sums of many steps, to ten times that."""
    first, *others = curves
    losses_agree = all(curve.difference(first) <= tolerance for curve in others)
    weights_agree = all(curve.weight_difference(first) <= 10 * tolerance for curve in others)
    print(f"\nLosses {'agree' if losses_agree else 'do NOT agree'} to {tolerance:g}.")
    print(f"Weights {'agree' if weights_agree else 'do NOT agree'} to {10 * tolerance:g}.")
    return losses_agree and weights_agree


def format_table(curves: Sequence[Curve]) -> str:
    """Markdown: the losses of some twenty steps and the last validation scores of each run, then the largest differences."""
    first, names = curves[0], [curve.name for curve in curves]
    steps = np.unique(np.linspace(0, min(len(curve.losses) for curve in curves) - 1, 20).astype(int))
    rows = [[f"loss of step {step + 1}", *(f"{curve.losses[step]:.6f}" for curve in curves)] for step in steps]
    for score in ("eval_age_mae", "eval_gender_accuracy"):
        if score in first.scores:
            rows.append([f"`{score}`", *(f"{curve.scores[score]:.6f}" for curve in curves)])
    rows.append(["largest difference of a loss", "", *(f"{curve.difference(first):.1e}" for curve in curves[1:])])
    rows.append(["largest difference of a weight", "", *(f"{c.weight_difference(first):.1e}" for c in curves[1:])])
    return markdown_table(["", *names], rows)


def draw(curves: Sequence[Curve]) -> Figure:
    """The losses, and below them their relative difference from the first run."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    first, styles = curves[0], zip(curves, ("-", "--", ":"), (4, 2, 2), strict=True)
    for curve, style, width in styles:
        above.plot(range(1, len(curve.losses) + 1), curve.losses, style, linewidth=width, label=curve.name)
        if curve is not first and len(curve.losses) == len(first.losses):
            below.plot(
                range(1, len(curve.losses) + 1), np.abs(curve.losses / first.losses - 1), style, label=curve.name
            )
    above.set(ylabel="training loss")
    above.legend()
    below.set(xlabel="step", ylabel="relative\ndifference")
    below.legend()
    return figure


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmarks.check_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s RECIPE [--processes N] [--config_file YAML] [--tolerance FRACTION] [--name value ...]",
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        *("--config_file", "--config-file"),
        type=Path,
        default=Path("trainer/accelerate/cpu.yaml"),
        help="configuration of accelerate",
    )
    parser.add_argument("--tolerance", type=float, default=1e-4, help="the largest relative difference of a loss")
    parser.add_argument("--output_dir", "--output-dir", type=Path, default=Path("outputs/check_training"))
    own, of_recipe = parser.parse_known_args(argv)
    curves = check(own, of_recipe)
    table = format_table(curves)
    (own.output_dir / "curves.md").write_text(table + "\n", encoding="utf-8")
    draw(curves).savefig(own.output_dir / "curves.png", dpi=90, facecolor="white")
    print(table)
    return 0 if agree(curves, own.tolerance) else 1


if __name__ == "__main__":
    with errors_explained():
        sys.exit(main(sys.argv[1:]))
