"""Export a model to ONNX in fp32, in int8 and for browsers, compare the files with it, and only then put them in place."""

import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from datasets import Dataset
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model.exported_age_gender import OUTPUTS, AgeGenderOnnxModel
from model.model_files import load_image_processor
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.output_files import only_writer, write_atomically
from model_card.requirements import COMPARISON, WEIGHTS, sha256
from trainer.data.arguments import DataArguments
from trainer.data.rows import load_row_picture
from trainer.evaluation.held_out import load_held_out
from trainer.onnx.parity import compare, print_comparison, run_all
from trainer.run_record import public_name


FP32_FILE, INT8_FILE, WEB_FILE = "model.onnx", "model_int8.onnx", "model_web.onnx"
UNFINISHED = ".export-"  # begins the name of the folder in which files are made
MAX_DIFFERENCE = 1e-4  # of the fp32 file's logits from torch's
RANDOM_BATCHES = (1, 2, 7)  # sizes
PACKAGES = ("torch", "onnx", "onnxruntime")
LEAST_WEIGHTS = 4096  # smaller arrays stay in fp32: they save nothing
# Up to here 16 bits: a network's first layers are small, and in 8 bits they change its answers most.
MOST_WEIGHTS_IN_16_BITS = 2**17


class ExportError(AgeGenderError):
    """The model cannot be exported; the message says why. What an earlier export wrote is still there."""


@dataclass
class ExportArguments:
    """Which model is exported, and where to."""

    model: str = field(default="model", metadata={"help": "Folder of the model."})
    output_dir: str | None = field(default=None, metadata={"help": "Where to write; the model's onnx/ unless given."})
    fp32: bool = field(default=True, metadata={"help": "Write the version in full precision."})
    int8: bool = field(default=False, metadata={"help": "Also write an 8-bit version: smaller, and faster on servers."})
    web: bool = field(
        default=False,
        metadata={"help": "Also write a version for browsers: weights in 8 and 16 bits, computed in full precision."},
    )
    split: str = field(
        default="test", metadata={"help": "train, validation, test or 'all': the faces of --dataset to compare on."}
    )


@dataclass
class FaceArguments(DataArguments):
    """As for training; without --dataset the comparison is made on random input."""

    dataset: str | None = field(  # type: ignore[assignment]  # optional here only
        default=None, metadata={"help": "Faces to compare on: a Hub id, folder or archive; random input unless given."}
    )


def export_onnx(args: ExportArguments, face_args: FaceArguments) -> list[Path]:
    """Write the ONNX files and comparison.json, print the comparison, and return the paths of the files.

    Raises:
        ExportError: there is no model, no file is asked for, it cannot be exported, or the fp32 file's logits differ from
            torch's by more than `MAX_DIFFERENCE`; nothing is written then.
        DatasetError, EvaluationError: there are no such faces, or the model was trained on them.
        OutputLockedError: another export writes there.
    """
    folder = Path(args.model)
    if not (folder / WEIGHTS).is_file():
        raise ExportError(f"{folder} holds no {WEIGHTS}: give the folder of a trained model, outputs/<run> or model.")
    wanted = {FP32_FILE: args.fp32, INT8_FILE: args.int8, WEB_FILE: args.web}
    names = [name for name, is_wanted in wanted.items() if is_wanted]
    if not names:
        raise ExportError("Expected at least one of --fp32, --int8 and --web to be true; all are false.")
    model = AgeGenderModel.from_pretrained(folder, dtype=torch.float32).eval()
    faces = load_held_out(folder, face_args, args.split).faces if face_args.dataset else None
    output_dir = Path(args.output_dir or folder / "onnx")
    output_dir.mkdir(parents=True, exist_ok=True)
    with only_writer(output_dir, "--output_dir", output_dir / ".export.lock"):
        return _export(args, face_args, model, faces, names, output_dir)


def _export(
    args: ExportArguments,
    face_args: FaceArguments,
    model: AgeGenderModel,
    faces: Dataset | None,
    names: list[str],
    output_dir: Path,
) -> list[Path]:
    for left_by_a_kill in output_dir.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left_by_a_kill)
    folder = Path(args.model)
    # in the same file system, so that os.replace is atomic
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=UNFINISHED) as work:
        weights_sha256 = sha256(folder / WEIGHTS)
        write_fp32(model, Path(work) / FP32_FILE, weights_sha256)
        if args.int8:
            write_int8(Path(work) / FP32_FILE, Path(work) / INT8_FILE)
        if args.web:
            write_web(Path(work) / FP32_FILE, Path(work) / WEB_FILE)
        measured = dict.fromkeys([FP32_FILE, *names])
        exported = {name: AgeGenderOnnxModel(Path(work) / name) for name in measured}
        batches = random_batches(model.config) if faces is None else face_batches(folder, model, faces)
        logits = run_all({"torch": model, **exported}, batches)
        comparison: dict[str, Any] = {
            "weights_sha256": weights_sha256,
            "dataset": face_args.dataset and public_name(face_args.dataset),
            "split": None if faces is None else args.split,
            "pictures": 0 if faces is None else len(faces),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "files": {name: compare(logits, name, Path(work) / name, faces, model.config) for name in measured},
        }
        difference = comparison["files"][FP32_FILE]["largest_difference"]
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"The exported network's logits differ from torch's by {difference:.1e}; at most {MAX_DIFFERENCE:.0e} "
                "was expected. Nothing was written."
            )
        comparison["files"] = {name: comparison["files"][name] for name in names}
        for name in names:
            os.replace(Path(work) / name, output_dir / name)
    write_atomically(output_dir / Path(COMPARISON).name, json.dumps(comparison, indent=1) + "\n")
    inputs = f"{sum(RANDOM_BATCHES)} random inputs" if faces is None else f"{len(faces)} faces"
    print_comparison(comparison, inputs)
    for name, option in ((FP32_FILE, "--fp32"), (INT8_FILE, "--int8"), (WEB_FILE, "--web")):
        if name not in names and (output_dir / name).exists():
            (output_dir / name).unlink()  # it may hold other weights, and would be pushed with these
            print(f"Removed {name} of an earlier export: {option} makes it again.")
    return [output_dir / name for name in names]


def random_batches(config: AgeGenderConfig) -> Iterator[torch.Tensor]:
    """(B, 3, image_size, image_size), normally distributed, in batches of several sizes."""
    generator = torch.Generator().manual_seed(0)
    for count in RANDOM_BATCHES:
        yield torch.randn(count, 3, config.image_size, config.image_size, generator=generator)


BATCH = 64  # faces


def face_batches(folder: Path, model: AgeGenderModel, faces: Dataset) -> Iterator[torch.Tensor]:
    """(B, 3, image_size, image_size) of face crops, preprocessed as the pipeline does."""
    pipe = AgeGenderPipeline(model=model, image_processor=load_image_processor(folder), device="cpu")
    for start in range(0, len(faces), BATCH):
        rows = faces.select(range(start, min(start + BATCH, len(faces))))
        yield torch.cat([pipe.preprocess(load_row_picture(row), detect=False).pixel_values for row in rows])


def write_fp32(model: AgeGenderModel, path: Path, weights_sha256: str) -> None:
    """Export with a dynamic batch size. The file's metadata hold the hash of the weights that it was made from.

    Raises:
        ExportError: torch.onnx cannot export this backbone.
    """
    size = model.config.image_size
    try:
        with _quiet():
            program = torch.onnx.export(
                _Logits(model).eval(),
                (torch.zeros(2, 3, size, size),),
                input_names=["pixel_values"],
                output_names=list(OUTPUTS),
                dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"torch.onnx cannot export this {type(model.backbone).__name__}: {reason}") from error
    assert program is not None, "with dynamo=True"
    program.model.metadata_props["weights_sha256"] = weights_sha256
    program.save(path, external_data=False)


class _Logits(nn.Module):
    """Returns a tuple: the exporter ignores the names in an AgeGenderOutput."""

    def __init__(self, model: AgeGenderModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(pixel_values)
        return tuple(output[name] for name in OUTPUTS)


def write_int8(fp32_path: Path, path: Path) -> None:
    """Quantise the weights of matrix products to 8 bits with one scale per channel; activations are quantised at run time."""
    proto = onnx.load(fp32_path)
    proto.graph.ClearField("value_info")  # torch's shapes contradict those that onnxruntime infers after quantising
    # convolutions stay in fp32: onnxruntime's 8-bit ones are slower
    with _quiet():
        quantize_dynamic(
            proto, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )


def write_web(fp32_path: Path, path: Path) -> None:
    """Store large weights in 8 bits with one scale per channel, others in 16; a browser computes with them in fp32.

    onnxruntime's 8-bit products are slower than those in fp32 in WebAssembly, so that only the size of the download counts.
    Weights alone in 8 bits also differ less from fp32 than weights and activations.
    """
    proto = onnx.load(fp32_path)
    proto.graph.ClearField("value_info")
    kept, nodes = [], []
    for tensor in proto.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim < 2 or weights.size < LEAST_WEIGHTS:
            kept.append(tensor)
            continue
        if weights.size <= MOST_WEIGHTS_IN_16_BITS:
            name = f"{tensor.name}_16_bits"
            kept.append(numpy_helper.from_array(weights.astype(np.float16), name))
            nodes.append(helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT))
            continue
        users = [node for node in proto.graph.node if tensor.name in node.input]
        axis = 0 if all(node.op_type == "Conv" for node in users) else weights.ndim - 1  # that of the output channels
        others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
        scales = np.abs(weights).max(axis=others, keepdims=True) / 127
        scales[scales == 0] = 1
        whole = np.rint(weights / scales).astype(np.int8)
        names = [f"{tensor.name}_{part}" for part in ("8_bits", "scales")]
        kept += [numpy_helper.from_array(whole, names[0]), numpy_helper.from_array(scales.ravel(), names[1])]
        nodes.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    nodes += proto.graph.node
    for field_name, items in (("initializer", kept), ("node", nodes)):
        proto.graph.ClearField(field_name)
        getattr(proto.graph, field_name).extend(items)
    onnx.save(proto, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's warnings about unknown torchvision operators, and advice of onnxruntime that changes nothing here."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
