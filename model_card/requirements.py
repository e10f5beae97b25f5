"""What must lie in a model's folder before its card can be rendered, and whether its figures are of these very weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

from model_card.run_record import RUN_RECORD


WEIGHTS = "model.safetensors"
METRICS = "metrics.json"  # what an evaluation writes
CARD = "README.md"
COMPARISON = "onnx/comparison.json"  # what scripts.export_onnx measured
NETWORK_FILES = ("config.json", "preprocessor_config.json", WEIGHTS)  # without which no model can be loaded
REQUIRED_FILES = (*NETWORK_FILES, METRICS, RUN_RECORD)
REQUIRED_METRICS = (
    "split",
    "pictures",
    "bootstrap",
    "calibration",
    "groups",
    "worst_group",
    "network",
)
HEADS = {"age": "age in years", "age_ranges": "age range", "gender": "gender"}  # a set may lack labels of some
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
    """What keeps the card of the model in `folder` from being rendered, one sentence each; empty if nothing does."""
    problems = [f"{name} is missing" for name in REQUIRED_FILES if not (folder / name).is_file()]
    weights_sha256 = sha256(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
    content: dict[str, dict[str, Any]] = {}
    for name in ("config.json", "preprocessor_config.json", METRICS, RUN_RECORD, COMPARISON):
        if (folder / name).is_file():
            try:
                content[name] = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                problems.append(f"{name} is not JSON: {error}")
    if RUN_RECORD in content:
        problems += _run_problems(folder, content[RUN_RECORD])
    if METRICS in content:
        problems += _metrics_problems(content[METRICS], weights_sha256)
    return problems + _onnx_problems(folder, content.get(COMPARISON), weights_sha256)


def not_measured(metrics: dict[str, Any]) -> list[str]:
    """The answers of the model, in the words of `HEADS`, that have no score: the test faces lack such labels."""
    return [words for key, words in HEADS.items() if not metrics.get(key)]


def onnx_files(folder: Path) -> list[str]:
    """Paths of the exported networks, relative to the folder and sorted: the one in full precision comes first."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("onnx/*.onnx"))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content; by it, figures name the weights they were computed for."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run_problems(folder: Path, run: dict[str, Any]) -> list[str]:
    problems = [f"{RUN_RECORD} does not say {key!r}" for key in REQUIRED_RUN if key not in run]
    was_validated = any("eval_loss" in entry for entry in run.get("log_history", ()))
    if was_validated and not (folder / "figures" / "learning_curves.png").exists():
        problems.append("figures/learning_curves.png is missing: run python -m scripts.evaluate_model")
    return problems


def _metrics_problems(metrics: dict[str, Any], weights_sha256: str | None) -> list[str]:
    problems = [f"{METRICS} does not say {key!r}" for key in REQUIRED_METRICS if not metrics.get(key)]
    if len(not_measured(metrics)) == len(HEADS):
        problems.append(f"{METRICS} holds no score of either head: the test faces have no labels")
    if metrics.get("split") not in (None, "test"):
        problems.append(f"{METRICS} is of the {metrics['split']} split: a card states those of the test split")
    measured = metrics.get("weights_sha256")
    if weights_sha256 and measured != weights_sha256:
        whose = f"other weights ({measured[:12]}..., not {weights_sha256[:12]}...)" if measured else "unnamed weights"
        problems.append(f"{METRICS} holds figures of {whose}: run python -m scripts.evaluate_model again")
    return problems


def _onnx_problems(folder: Path, comparison: dict[str, Any] | None, weights_sha256: str | None) -> list[str]:
    """Stale or unmeasured exports; found by hashes, so that the check needs no ONNX package."""
    files, again = onnx_files(folder), "run python -m scripts.export_onnx again with the same options, or remove onnx/"
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
