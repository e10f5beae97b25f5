"""The file of weights in a model folder, and the hash by which figures name the weights they were computed for."""

import hashlib
import json
from pathlib import Path
from typing import Any


WEIGHTS = "model.safetensors"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


COMPARISON = "onnx/comparison.json"  # what scripts.export_onnx measured
REQUIRED_FILES = ("config.json", "preprocessor_config.json", WEIGHTS, "metrics.json", "training_run.json")
REQUIRED_METRICS = (
    "split",
    "pictures",
    "bootstrap",
    "age",
    "age_ranges",
    "gender",
    "calibration",
    "groups",
    "worst_group",
    "network",
)
REQUIRED_RUN = (
    "command",
    "versions",
    "hardware",
    "seconds",
    "data",
    "calibration",
    "best_step",
    "best_metric",
    "arguments",
)


def card_problems(folder: Path) -> list[str]:
    """What keeps a card from being rendered, one sentence each; empty where nothing does."""
    problems = [f"{name} is missing" for name in REQUIRED_FILES if not (folder / name).is_file()]
    weights_sha256 = sha256(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
    content, unreadable = _read_all(folder, ("metrics.json", "training_run.json", COMPARISON))
    problems += unreadable
    if (run := content.get("training_run.json")) is not None:
        problems += [f"training_run.json does not say {key!r}" for key in REQUIRED_RUN if key not in run]
        was_validated = any("eval_loss" in entry for entry in run.get("log_history", ()))
        if was_validated and not (folder / "figures" / "learning_curves.png").exists():
            problems.append("figures/learning_curves.png is missing: run python -m scripts.evaluate_model")
    if (metrics := content.get("metrics.json")) is not None:
        problems += [f"metrics.json does not say {key!r}" for key in REQUIRED_METRICS if not metrics.get(key)]
        if metrics.get("split") not in (None, "test"):
            problems.append(f"metrics.json is of the {metrics['split']} split: a card states those of the test split")
        measured = metrics.get("weights_sha256")
        if weights_sha256 and measured != weights_sha256:
            of_what = (
                f"other weights ({measured[:12]}..., not {weights_sha256[:12]}...)" if measured else "unnamed weights"
            )
            problems.append(f"metrics.json holds figures of {of_what}: run python -m scripts.evaluate_model again")
    return problems + _onnx_problems(folder, content.get(COMPARISON), weights_sha256)


def onnx_files(folder: Path) -> list[str]:
    """Paths of the exported networks, relative to the folder; the one with the weights' own precision comes first."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("onnx/*.onnx"))


def _onnx_problems(folder: Path, comparison: dict[str, Any] | None, weights_sha256: str | None) -> list[str]:
    """A stale or unmeasured export is told by hashes, so that checking one needs no ONNX package."""
    files, again = onnx_files(folder), "run python -m scripts.export_onnx --int8 --dataset ... again, or remove onnx/"
    if not files:
        return []
    if comparison is None:
        return [f"{COMPARISON}, which says what the ONNX files were made from, is missing: {again}"]
    if comparison.get("weights_sha256") != weights_sha256:
        return [f"onnx/ holds an export of other weights: {again}"]
    if not comparison.get("pictures"):
        return [f"{COMPARISON} does not say what the export costs on faces: {again}"]
    stated = comparison.get("files", {})
    return [
        f"{path} is not the file that {COMPARISON} was measured on: {again}"
        for path in files
        if stated.get(Path(path).name, {}).get("sha256") != sha256(folder / path)
    ]


def _read_all(folder: Path, names: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """The content of those JSON files that are there, and what is wrong with the others that are."""
    content, problems = {}, []
    for name in names:
        if (folder / name).is_file():
            try:
                content[name] = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                problems.append(f"{name} is not JSON: {error}")
    return content, problems
