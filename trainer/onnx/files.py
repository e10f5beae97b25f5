"""Write a model's ONNX files, compared with the model before they are put in place."""

import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoImageProcessor

from model.configuration_age_gender import AgeGenderConfig
from model.exported_age_gender import AgeGenderOnnxModel
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.required import COMPARISON
from model_card.weights import WEIGHTS, sha256
from trainer.data_arguments import DataArguments
from trainer.held_out import load_held_out
from trainer.onnx.comparison import compare, print_comparison, run_all
from trainer.onnx.export import ExportError, write_fp32, write_int8
from trainer.run_record import public_name


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
        yield torch.cat([pipe.preprocess(image, detect=False)["pixel_values"] for image in images])
