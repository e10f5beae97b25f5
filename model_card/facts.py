"""What is counted in a model folder's own files: parameters, outputs, size and number type of the weights, time."""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from model_card.weights import WEIGHTS


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation: stored, and not trained


def card_facts(folder: Path) -> dict[str, Any]:
    """From the header of the weights, the configuration and the run's record; loads neither torch nor the model."""
    with safe_open(folder / WEIGHTS, framework="np") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118, it is no dict
        kinds = {tensor.get_dtype() for tensor in slices.values()}
        sizes = {name: math.prod(tensor.get_shape()) for name, tensor in slices.items()}
    config, run = (json.loads((folder / name).read_text()) for name in ("config.json", "training_run.json"))
    earlier = (run.get("started_from") or {}).get("seconds")
    return {
        "parameters": sum(size for name, size in sizes.items() if name.rpartition(".")[2] not in STATISTICS),
        "age_outputs": config["max_age"] + 1,
        "gender_outputs": len(config["gender_names"]),
        "weights_megabytes": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f}",
        "weights_dtypes": sorted(kinds & {"F32", "F16", "BF16"}),
        "training_time": _duration(run["seconds"]),
        "earlier_training_time": _duration(earlier) if earlier else None,
    }


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"
