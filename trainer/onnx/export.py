"""Write a model as ONNX: in its own precision, and with 8-bit weights."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from model.modeling_age_gender import AgeGenderModel


OUTPUTS = ("age_logits", "age_range_logits", "gender_logits")


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
