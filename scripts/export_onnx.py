"""Export a model to ONNX, and compare the file with the model before it is put in place.

    python -m scripts.export_onnx --model model --int8 --dataset UTKFace.tar.gz

writes model/onnx/model.onnx and model_int8.onnx, with the input pixel_values (batch, 3, image_size, image_size) and the
outputs age_logits, age_range_logits and gender_logits. Needs onnx, onnxscript and onnxruntime (requirements-dev.txt).
"""

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from datasets import Dataset
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from transformers import AutoImageProcessor, HfArgumentParser
from transformers.utils.logging import disable_progress_bar

from model.configuration_age_gender import AgeGenderConfig
from model.decoding_age_gender import softmax
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from scripts.evaluate_model import check_held_out, choose_split
from scripts.model_folder import WEIGHTS, sha256
from trainer.data import DataArguments, load_faces
from trainer.metrics import AgeGenderMetric
from trainer.onnx_model import AgeGenderOnnxModel
from trainer.prediction import age_bounds


OUTPUTS = ("age_logits", "age_range_logits", "gender_logits")
FP32_FILE, INT8_FILE = "model.onnx", "model_int8.onnx"
MAX_DIFFERENCE = 1e-4
RANDOM_BATCHES = (1, 2, 7)


class ExportError(ValueError):
    """The model cannot be exported; the message says why. What an earlier export wrote is still there."""


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


class _Logits(nn.Module):
    """A tuple instead of AgeGenderOutput, from which the exporter would take no names."""

    def __init__(self, model: AgeGenderModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(pixel_values)
        return tuple(output[name] for name in OUTPUTS)


def export_onnx(args: ExportArguments, face_args: FaceArguments) -> list[Path]:
    """Write the ONNX files, print how they compare with the model, and return their paths.

    Raises:
        ExportError: there is no model, it cannot be exported, or the fp32 file's logits differ from torch's by more than
            `MAX_DIFFERENCE`; nothing is written then.
    """
    folder = Path(args.model)
    if not (folder / WEIGHTS).is_file():
        raise ExportError(f"{folder} holds no {WEIGHTS}: give the folder of a trained model, outputs/<run> or model.")
    model = AgeGenderModel.from_pretrained(folder, dtype=torch.float32).eval()
    faces = _load_faces(folder, args, face_args) if face_args.dataset else None
    output_dir = Path(args.output_dir or folder / "onnx")
    output_dir.mkdir(parents=True, exist_ok=True)
    names = [FP32_FILE] + [INT8_FILE] * args.int8
    # in the same file system, so that finished files can be moved into place
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".export-") as work:
        write_fp32(model, Path(work) / FP32_FILE, weights_sha256=sha256(folder / WEIGHTS))
        if args.int8:
            write_int8(Path(work) / FP32_FILE, Path(work) / INT8_FILE)
        exported = {name: AgeGenderOnnxModel(model.config, Path(work) / name) for name in names}
        batches = random_batches(model.config) if faces is None else face_batches(folder, model, faces)
        logits = run_all({"torch": model, **exported}, batches)
        _print_comparison(logits, faces, model.config, {name: Path(work) / name for name in names})
        difference = largest_difference(logits["torch"], logits[FP32_FILE])
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"The exported network's logits differ from torch's by {difference:.1e}; at most {MAX_DIFFERENCE:.0e} "
                "was expected. Nothing was written."
            )
        for name in names:
            os.replace(Path(work) / name, output_dir / name)
    if not args.int8 and (output_dir / INT8_FILE).exists():
        (output_dir / INT8_FILE).unlink()  # it may be of other weights, and would be pushed with these
        print(f"Removed {INT8_FILE} of an earlier export: --int8 makes it again.")
    return [output_dir / name for name in names]


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


def run_all(
    models: dict[str, AgeGenderModel | AgeGenderOnnxModel], batches: Iterable[torch.Tensor]
) -> dict[str, dict[str, np.ndarray]]:
    """Each model's logits, (N, outputs) by name of the output, on the same input."""
    parts = {name: {output: [] for output in OUTPUTS} for name in models}
    with torch.inference_mode():
        for pixel_values in batches:
            for name, model in models.items():
                result = model(pixel_values)
                for output in OUTPUTS:
                    parts[name][output].append(result[output].numpy())
    return {
        name: {output: np.concatenate(arrays) for output, arrays in outputs.items()} for name, outputs in parts.items()
    }


def largest_difference(logits: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(logits[output] - others[output]).max()) for output in OUTPUTS)


def score(logits: dict[str, np.ndarray], faces: Dataset, config: AgeGenderConfig) -> dict[str, float]:
    """`age_mae` in years and `gender_accuracy`, where the faces are labelled with both."""
    return AgeGenderMetric(config).compute(
        age_probs=softmax(logits["age_logits"].astype(np.float64)),
        gender_probs=softmax(logits["gender_logits"].astype(np.float64)),
        age_labels=age_bounds(faces),
        gender_labels=np.array(faces["gender"]),
    )


def _load_faces(folder: Path, args: ExportArguments, face_args: FaceArguments) -> Dataset:
    """The faces of the training run's own split, as `scripts.evaluate_model` measures on."""
    run_file = folder / "training_run.json"
    run = json.loads(run_file.read_text(encoding="utf-8")) if run_file.exists() else {}
    splits = load_faces(face_args, seed=run.get("data", {}).get("seed", 0))
    if "data" in run:
        check_held_out(splits, face_args, run)
    return choose_split(splits, args.split)


def _print_comparison(
    logits: dict[str, dict[str, np.ndarray]], faces: Dataset | None, config: AgeGenderConfig, paths: dict[str, Path]
) -> None:
    count = len(logits["torch"]["age_logits"])
    on_what = f"{count} random inputs" if faces is None else f"{count} faces"
    scores = {name: score(values, faces, config) for name, values in logits.items()} if faces is not None else {}
    for name, path in paths.items():
        megabytes = path.stat().st_size / 1e6
        difference = largest_difference(logits["torch"], logits[name])
        print(f"{name}: {megabytes:.1f} MB, logits within {difference:.1e} of torch's on {on_what}")
        for metric, unit, scale in (("age_mae", "years", 1), ("gender_accuracy", "%", 100)):
            if metric in scores.get(name, {}):
                before, after = scale * scores["torch"][metric], scale * scores[name][metric]
                print(f"    {metric}: {before:.3f} -> {after:.3f} {unit} ({after - before:+.3f})")


def main() -> None:
    disable_progress_bar()
    parser = HfArgumentParser([ExportArguments, FaceArguments], allow_abbrev=False, description=__doc__)
    try:
        paths = export_onnx(*parser.parse_args_into_dataclasses())
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print("Written:", *paths)


if __name__ == "__main__":
    main()
