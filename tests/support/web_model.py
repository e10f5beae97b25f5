"""A tiny model with its network for browsers, as `scripts.export_onnx --web` leaves one, but not measured on faces."""

import json
import shutil
from pathlib import Path

from model_card.requirements import WEIGHTS, sha256
from tests.support.tiny_model import save_tiny_model
from trainer.onnx.export import FP32_FILE, WEB_FILE, write_fp32, write_web


def save_web_model(folder: Path) -> None:
    """The same network in fp32 lies beside it, as model.onnx."""
    model = save_tiny_model(folder)
    onnx = folder / "onnx"
    onnx.mkdir()
    write_fp32(model, onnx / FP32_FILE, "")
    write_web(onnx / FP32_FILE, onnx / WEB_FILE)
    describe(folder)


def in_full_precision(folder: Path, copy: Path) -> Path:
    """A copy whose network for browsers is that in fp32."""
    shutil.copytree(folder, copy)
    shutil.copyfile(copy / "onnx" / FP32_FILE, copy / "onnx" / WEB_FILE)
    describe(copy)
    return copy


def describe(folder: Path) -> None:
    """Write comparison.json for the files as they are."""
    files = {WEB_FILE: {"sha256": sha256(folder / "onnx" / WEB_FILE)}}
    comparison = {"weights_sha256": sha256(folder / WEIGHTS), "files": files}
    (folder / "onnx" / "comparison.json").write_text(json.dumps(comparison))
