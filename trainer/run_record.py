"""What a run was made of and how it went, as `training_run.json` beside the weights."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict, IterableDatasetDict
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import TrainingArguments

from model_card.trained_sets import trained_sets
from trainer.atomic_files import write_whole
from trainer.devices import usable_cores


RUN_RECORD = "training_run.json"  # written after the weights: the run is trained
PACKAGES = (
    *("torch", "transformers", "datasets", "evaluate", "accelerate", "pillow", "numpy", "safetensors"),
    *("scikit-learn", "opencv-python-headless", "faiss-cpu"),  # the last two prepare the faces
)
# Where the run put things on this machine, and what may hold an account's secret.
PRIVATE_ARGUMENTS = ("hub_token", "output_dir", "logging_dir", "resume_from_checkpoint", "run_name")
TOKEN = "--hub[_-]token"


def save_run_record(path: Path, record: dict[str, Any]) -> None:
    write_whole(path, json.dumps(record, indent=2, default=str) + "\n")


def read_run_record(folder: Path) -> dict[str, Any] | None:
    """The record beside a model's weights; None where there is none."""
    path = folder / RUN_RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def public_name(dataset: str) -> str:
    """A Hub id as it is; of a file or folder its name, for where it lies is nobody's business."""
    path = Path(dataset)
    return path.resolve().name if path.exists() or path.is_absolute() else dataset


def describe_environment(paths: Sequence[str]) -> dict[str, Any]:
    """Command, versions, commit, and hardware of this machine.

    Args:
        paths: of which the command shall show the names only.
    """
    return {
        "command": command_line(paths),
        "commit": _commit(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": {
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "gpus": torch.cuda.device_count(),
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
            "machines": _machines(),
        },
    }


def describe_start(name_or_path: str, revision: str | None) -> dict[str, Any]:
    """The model that training went on from; the sets it had seen, whose terms its weights carry on; how long its training
    took, all in all; and how it was made (None where it does not say).
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        try:
            folder = Path(hf_hub_download(name_or_path, RUN_RECORD, revision=revision)).parent
        except EntryNotFoundError:
            folder = None
    run = folder and read_run_record(folder)
    earlier = (run and run.get("started_from")) or {"trained_on": [], "seconds": 0}
    sets = trained_sets(run) if run else []
    return {
        "model": public_name(name_or_path),
        "revision": revision,
        "trained_on": [*sets, *(known for known in earlier["trained_on"] if known not in sets)],
        "data_seed": run["data"]["seed"] if run else None,
        "seconds": run["seconds"] + earlier["seconds"] if run and earlier["seconds"] is not None else None,
        "record": run and {name: run.get(name) for name in ("command", "commit", "recipe_text", "log_history")},
    }


def describe_arguments(training_args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from transformers' defaults, without paths and secrets."""
    # use_cpu as given, or TrainingArguments would refuse bf16 here; it is then compared with False, its default
    defaults = type(training_args)(output_dir=training_args.output_dir, use_cpu=training_args.use_cpu).to_dict()
    defaults["use_cpu"] = False
    return {
        name: value
        for name, value in training_args.to_dict().items()
        if name not in PRIVATE_ARGUMENTS and value != defaults.get(name)
    }


def describe_splits(faces: DatasetDict | IterableDatasetDict) -> dict[str, Any]:
    """How many faces each split has, and hashes over which faces they are, and over their labels, whatever their order."""
    groups, labels, counts = [], [], {}
    for name, split in faces.items():
        columns = [name for name in ("group", "age", "age_low", "age_high", "gender") if name in split.column_names]
        counts[name] = 0
        for row in split.select_columns(columns):  # one at a time: a stream is as long as it is
            groups.append(f"{name} {row['group']}")
            labels.append(f"{name} {[row[column] for column in columns]}")
            counts[name] += 1
    return {"splits": counts, "splits_sha256": _hash(groups), "manifest_sha256": _hash(labels)}


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def command_line(paths: Sequence[str] = ()) -> str:
    """How this run was started, as one would type it; of `paths` only their names, and no token."""
    module = sys.modules["__main__"].__spec__
    words = [*_launcher(), *(("-m", module.name) if module else (Path(sys.argv[0]).name,))]
    for previous, word in pairwise(["", *sys.argv[1:]]):
        for path in paths:
            # also inside JSON, where it stands in quotes
            word = public_name(path) if word == path else word.replace(json.dumps(path), json.dumps(public_name(path)))
        words.append("..." if re.fullmatch(TOKEN, previous) else re.sub(f"^({TOKEN}=).*", r"\1...", word))
    return shlex.join(words)


def _launcher() -> list[str]:
    """What starts as many processes as there are, by the configurations in trainer/accelerate."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if processes == 1:
        return ["python"]
    on_gpus = "multi_machine" if _machines() > 1 else "multi_gpu" if torch.cuda.is_available() else "cpu"
    kind = "fsdp" if os.environ.get("ACCELERATE_USE_FSDP") == "true" else on_gpus
    words = ["accelerate", "launch", "--config_file", f"trainer/accelerate/{kind}.yaml"]
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
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
