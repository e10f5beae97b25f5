"""Write a model as ONNX: in its own precision, and with 8-bit weights."""

import importlib.metadata
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from datasets import Dataset
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from transformers import AutoImageProcessor

from model.configuration_age_gender import AgeGenderConfig
from model.exported_age_gender import AgeGenderOnnxModel
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.requirements import COMPARISON, WEIGHTS, sha256
from trainer.data.arguments import DataArguments
from trainer.evaluation.held_out import load_held_out
from trainer.onnx.parity import OUTPUTS, compare, print_comparison, run_all
from trainer.run_record import public_name


class ExportError(ValueError):
    """The model cannot be exported; the message says why. What an earlier export wrote is still there."""


class _Logits(nn.Module):
    """A tuple instead of AgeGenderOutput, from which the exporter would take no names."""

    def __init__(self, model: AgeGenderModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(pixel_values)
        return tuple(output[name] for name in OUTPUTS)


def write_fp32(model: AgeGenderModel, path: Path, weights_sha256: str) -> None:
    """Export with any number of faces in a batch; the file names the weights it was made from in its metadata."""
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
    program.model.metadata_props["weights_sha256"] = weights_sha256
    program.save(path, external_data=False)


def write_int8(fp32_path: Path, path: Path) -> None:
    """Weights of the matrix products in 8 bits, one scale a channel; activations are quantised as they come."""
    proto = onnx.load(fp32_path)
    proto.graph.ClearField("value_info")  # torch's shapes contradict those that onnxruntime infers after quantising
    # Convolutions stay in fp32: onnxruntime's 8-bit ones are slower than those.
    with _quiet():
        quantize_dynamic(
            proto, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """torch names every torchvision operator that it does not know, onnxruntime advises what changes nothing here."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


FP32_FILE, INT8_FILE = "model.onnx", "model_int8.onnx"
MAX_DIFFERENCE = 1e-4
RANDOM_BATCHES = (1, 2, 7)
PACKAGES = ("torch", "onnx", "onnxruntime")


@dataclass
class ExportArguments:
    """What is exported, and where to."""

    model: str = field(default="model", metadata={"help": "Folder of the model."})
    output_dir: str | None = field(default=None, metadata={"help": "Where to write; the model's onnx/ unless given."})
    int8: bool = field(default=False, metadata={"help": "Also write a version with 8-bit weights: smaller and faster."})
    split: str = field(default="test", metadata={"help": "Which faces of the data set to compare on, or 'all'."})


@dataclass
class FaceArguments(DataArguments):
    """As for training; without --dataset the comparison is made on random input."""

    dataset: str | None = field(
        default=None, metadata={"help": "Faces to compare on: a Hub id, folder or archive; random input unless given."}
    )


def export_onnx(args: ExportArguments, face_args: FaceArguments) -> list[Path]:
    """Write the ONNX files and their comparison with the model, print it, and return the files' paths.

    Raises:
        ExportError: there is no model, it cannot be exported, or the fp32 file's logits differ from torch's by more than
            `MAX_DIFFERENCE`; nothing is written then.
    """
    folder = Path(args.model)
    if not (folder / WEIGHTS).is_file():
        raise ExportError(f"{folder} holds no {WEIGHTS}: give the folder of a trained model, outputs/<run> or model.")
    model = AgeGenderModel.from_pretrained(folder, dtype=torch.float32).eval()
    faces = load_held_out(folder, face_args, args.split).faces if face_args.dataset else None
    output_dir = Path(args.output_dir or folder / "onnx")
    output_dir.mkdir(parents=True, exist_ok=True)
    names = [FP32_FILE] + [INT8_FILE] * args.int8
    # in the same file system, so that finished files can be moved into place
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".export-") as work:
        weights_sha256 = sha256(folder / WEIGHTS)
        write_fp32(model, Path(work) / FP32_FILE, weights_sha256)
        if args.int8:
            write_int8(Path(work) / FP32_FILE, Path(work) / INT8_FILE)
        exported = {name: AgeGenderOnnxModel(Path(work) / name) for name in names}
        batches = random_batches(model.config) if faces is None else face_batches(folder, model, faces)
        logits = run_all({"torch": model, **exported}, batches)
        comparison = {
            "weights_sha256": weights_sha256,
            "dataset": None if faces is None else public_name(face_args.dataset),
            "split": None if faces is None else args.split,
            "pictures": 0 if faces is None else len(faces),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "files": {name: compare(logits, name, Path(work) / name, faces, model.config) for name in names},
        }
        difference = comparison["files"][FP32_FILE]["largest_difference"]
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"The exported network's logits differ from torch's by {difference:.1e}; at most {MAX_DIFFERENCE:.0e} "
                "was expected. Nothing was written."
            )
        for name in names:
            os.replace(Path(work) / name, output_dir / name)
    (output_dir / Path(COMPARISON).name).write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf-8")
    print_comparison(
        comparison, f"{comparison['pictures'] or sum(RANDOM_BATCHES)} {'faces' if faces else 'random inputs'}"
    )
    if not args.int8 and (output_dir / INT8_FILE).exists():
        (output_dir / INT8_FILE).unlink()  # it may be of other weights, and would be pushed with these
        print(f"Removed {INT8_FILE} of an earlier export: --int8 makes it again.")
    return [output_dir / name for name in names]


def random_batches(config: AgeGenderConfig) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for count in RANDOM_BATCHES:
        yield torch.randn(count, 3, config.image_size, config.image_size, generator=generator)


def face_batches(folder: Path, model: AgeGenderModel, faces: Dataset, batch_size: int = 64) -> Iterator[torch.Tensor]:
    """(B, 3, image_size, image_size) of pictures that are face crops already."""
    pipe = AgeGenderPipeline(model=model, image_processor=AutoImageProcessor.from_pretrained(folder), device="cpu")
    for start in range(0, len(faces), batch_size):
        images = faces[start : start + batch_size]["image"]
        yield torch.cat([pipe.preprocess(image, detect=False).pixel_values for image in images])
