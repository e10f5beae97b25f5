"""An exported model on onnxruntime, with the interface of AgeGenderModel.

The file is not named after ONNX, because Inference Endpoints download no file with "onnx" in its name.
"""

from pathlib import Path

import torch

from .errors import AgeGenderError
from .modeling_age_gender import AgeGenderOutput


class MissingPackageError(AgeGenderError, ImportError):
    """A package that this model does not always need is not installed."""


class AgeGenderOnnxModel:
    """A file that `scripts.export_onnx` wrote. It runs in fp32 on the CPU, with as many threads as torch would use."""

    def __init__(self, path: str | Path):
        """Raises `MissingPackageError` if onnxruntime is not installed."""
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError("An ONNX file needs onnxruntime: pip install 'onnxruntime>=1.31,<2'") from error
        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __reduce__(self) -> tuple:  # a session cannot be pickled
        return AgeGenderOnnxModel, (self.path,)

    def __call__(self, pixel_values: torch.Tensor) -> AgeGenderOutput:
        """(B, 3, image_size, image_size) -> logits; `age_range_logits` are of the ranges at the time of the export."""
        arrays = self._session.run(self._names, {"pixel_values": pixel_values.float().cpu().numpy()})
        logits = zip(self._names, map(torch.from_numpy, arrays), strict=True)
        return AgeGenderOutput(**dict(logits))
