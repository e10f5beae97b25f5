"""What a run was made of and how it went: the parts of training_run.json, the record beside the weights.

`model_card.run_record` reads what this file writes.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict, IterableDatasetDict
from transformers import TrainingArguments

from model_card.output_files import write_atomically
from model_card.run_record import RUN_RECORD
from trainer.devices import is_sharded, usable_cores


PACKAGES = (
    *("torch", "transformers", "datasets", "evaluate", "accelerate", "pillow", "numpy", "safetensors"),
    *("scikit-learn", "opencv-python-headless", "faiss-cpu"),  # the last two prepare the faces
)
# Places on this machine, and what happens to the result.
UNRECORDED_ARGUMENTS = ("output_dir", "resume_from_checkpoint", "run_name", "push_to_hub")


def save_run_record(folder: Path, record: dict[str, Any]) -> None:
    """Write training_run.json. It comes after the weights: a folder that holds it holds a trained model."""
    write_atomically(folder / RUN_RECORD, json.dumps(record, indent=2, default=str) + "\n")


def public_name(dataset: str) -> str:
    """The name under which a data set or model may be published: a Hub id as it is, a file or folder without its path."""
    path = Path(dataset)
    return path.resolve().name if path.exists() or path.is_absolute() else dataset


def describe_start(
    recipe: Path | None,
    device: torch.device,
    private_paths: Sequence[str],
    finetuned: dict[str, Any] | None,
    teachers: list[dict[str, Any]],
) -> dict[str, Any]:
    """The part of the record that is known when a run starts. The commit may be another one when training ends.

    Args:
        recipe: its file, if there is one.
        device: that this process trains on.
        private_paths: shown in the command by their last part only; as a recipe outside the working directory is.
        finetuned: what `trainer.finetuning.describe_trained` says of the model to fine-tune; None without one.
        teachers: the same of each teacher.
    """
    is_private = recipe is not None and (recipe.is_absolute() or ".." in recipe.parts)
    return {
        "command": command_line(device, [*private_paths, *([str(recipe)] if is_private else [])]),
        "commit": _commit(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": describe_hardware(device),
        "recipe": recipe and (recipe.name if is_private else str(recipe)),
        "recipe_text": recipe and recipe.read_text(),
        "started_from": finetuned,
        "taught_by": teachers or None,
    }


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """What this machine trains with; `machines` counts all that train together.

    Args:
        device: that this process trains on: there may be a GPU that it does not use.
    """
    is_gpu = device.type == "cuda"
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if is_gpu else None,
        "gpus": torch.cuda.device_count() if is_gpu else 0,
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "machines": _machines(),
    }


def describe_arguments(training_args: TrainingArguments) -> dict[str, Any]:
    """{name: value} of the arguments that differ from transformers' defaults, without `UNRECORDED_ARGUMENTS`."""
    # use_cpu as given, or TrainingArguments would refuse bf16 here; it is then compared with False, its default
    defaults = type(training_args)(output_dir=training_args.output_dir, use_cpu=training_args.use_cpu).to_dict()
    defaults["use_cpu"] = False
    return {
        name: value
        for name, value in training_args.to_dict().items()
        if name not in UNRECORDED_ARGUMENTS and value != defaults.get(name)
    }


def describe_splits(faces: DatasetDict | IterableDatasetDict) -> dict[str, Any]:
    """Identify the splits of a set, whatever the order of their rows.

    Returns:
        `splits`, the number of faces in each; `splits_sha256`, a hash over which face is in which; `manifest_sha256`, one
        over their labels.
    """
    groups, labels, counts = [], [], {}
    for name, split in faces.items():
        columns = [name for name in ("group", "age", "age_low", "age_high", "gender") if name in split.column_names]
        counts[name] = 0
        for row in split.select_columns(columns):  # one at a time, because a stream has no length
            groups.append(f"{name} {row['group']}")
            labels.append(f"{name} {[row[column] for column in columns]}")
            counts[name] += 1
    return {"splits": counts, "splits_sha256": _hash(groups), "manifest_sha256": _hash(labels)}


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def command_line(device: torch.device, private_paths: Sequence[str] = ()) -> str:
    """The command that started this process, as one would type it.

    Args:
        device: that this process trains on.
        private_paths: shown by their last part only.
    """
    module = sys.modules["__main__"].__spec__
    words = [*_launcher(device), *(("-m", module.name) if module else (Path(sys.argv[0]).name,))]
    for word in sys.argv[1:]:
        for path in private_paths:
            # also inside JSON, where it stands in quotes
            word = public_name(path) if word == path else word.replace(json.dumps(path), json.dumps(public_name(path)))
        words.append(word)
    return shlex.join(words)


def _launcher(device: torch.device) -> list[str]:
    """The command that starts this many processes, with one of the configurations in trainer/accelerate."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if processes == 1:
        return ["python"]
    plain = "multi_machine" if _machines() > 1 else "multi_gpu" if device.type == "cuda" else "cpu"
    config = "fsdp" if is_sharded() else plain
    words = ["accelerate", "launch", "--config_file", f"trainer/accelerate/{config}.yaml"]
    words += ["--num_machines", str(_machines())] if _machines() > 1 else []
    return [*words, "--num_processes", str(processes)]


def _machines() -> int:
    processes = int(os.environ.get("WORLD_SIZE", 1))
    return processes // int(os.environ.get("LOCAL_WORLD_SIZE", processes))


def _commit() -> str | None:
    """The commit of the code, with `+changes` where the tree differs from it; None outside a git checkout."""
    root = Path(__file__).parents[1]
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def cpu_name() -> str:
    """The processor's name in /proc/cpuinfo; elsewhere than on Linux its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
