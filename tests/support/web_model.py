"""A tiny model with its network for browsers, as `scripts.export_onnx --web` leaves one, but not measured on faces."""

import json
from pathlib import Path

from model_card.requirements import WEIGHTS, sha256
from tests.support.tiny_model import save_tiny_model
from trainer.onnx.export import FP32_FILE, WEB_FILE, write_fp32, write_web


def save_web_model(folder: Path, full_precision: bool = False) -> None:
    """
    Args:
        full_precision: the network for browsers keeps its weights in fp32.
    """
    model = save_tiny_model(folder)
    onnx = folder / "onnx"
    onnx.mkdir()
    write_fp32(model, onnx / FP32_FILE, "")
    if full_precision:
        (onnx / FP32_FILE).rename(onnx / WEB_FILE)
    else:
        write_web(onnx / FP32_FILE, onnx / WEB_FILE)
    describe(folder)


def describe(folder: Path) -> None:
    """Write comparison.json for the files as they are."""
    files = {WEB_FILE: {"sha256": sha256(folder / "onnx" / WEB_FILE)}}
    comparison = {"weights_sha256": sha256(folder / WEIGHTS), "files": files}
    (folder / "onnx" / "comparison.json").write_text(json.dumps(comparison))
