"""Training runs of the smoke recipe for the tests: in this process, in other processes, and killed there."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from tests.support.warm_python import warm_python


ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "trainer/recipes/smoke.yaml")
CONFIGS = ROOT / "trainer/accelerate"
UNVARIED = [f"--{name}=0" for name in ("flip", "rotation_degrees", "zoom_out", "zoom_in", "shift", "color")]
UNVARIED += ["--grayscale=0", "--blur=0", "--erasing=0"]
EVERY_FIVE_STEPS = ["--save_strategy", "steps", "--save_steps", "5", "--eval_strategy", "steps", "--eval_steps", "5"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set torch's number of threads, on which rounding depends. The processes that the tests start use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arguments(faces: Path, output_dir: Path, *overrides: str) -> list[str]:
    """Arguments for three epochs of the smoke recipe, of twelve steps each with 240 faces, without a report."""
    fixed = [SMOKE, "--dataset", str(faces), "--output_dir", str(output_dir), "--num_train_epochs", "3"]
    return [*fixed, "--logging_steps", "1", "--disable_tqdm", "true", "--report", "false", *overrides]


def launch(config: str) -> tuple[str, ...]:
    """The launcher of a configuration in trainer/accelerate, for `command`."""
    return ("accelerate.commands.launch", "--config_file", str(CONFIGS / f"{config}.yaml"), "-m")


def command(
    faces: Path, output_dir: Path, *overrides: str, launcher: Sequence[str] = (), module: str = "trainer.train"
) -> list[str]:
    return [warm_python(), "-m", *launcher, module, *arguments(faces, output_dir, *overrides)]


def finish(*args, **kwargs) -> subprocess.CompletedProcess:
    """Run `command(...)` until it ends."""
    return subprocess.run(command(*args, **kwargs), cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)


def kill_after(steps: int, command: Sequence[str]) -> None:
    """Start the command; when it has logged this many losses, send SIGKILL to it and to all processes that it has started."""
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        logged = 0
        for line in run.stdout:
            if "'loss'" in line:
                logged += 1
                if logged == steps:
                    parent = psutil.Process(run.pid)
                    for process in (parent, *parent.children(recursive=True)):
                        process.kill()
    assert run.returncode == -signal.SIGKILL


def record_of(output_dir: Path) -> dict:
    return json.loads((output_dir / "training_run.json").read_text())


def losses(record: dict) -> list[float]:
    return [entry["loss"] for entry in record["log_history"] if "loss" in entry]
