"""The exported network on onnxruntime, called as AgeGenderModel is.

Not named after ONNX: Inference Endpoints download no file with that in its name.
"""

from pathlib import Path

import torch

from .modeling_age_gender import AgeGenderOutput


class AgeGenderOnnxModel:
    """A file that `scripts.export_onnx` wrote. It computes in fp32 on the CPU, on as many threads as torch would."""

    def __init__(self, path: str | Path):
        """Raises `ImportError` where onnxruntime is not installed."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("An ONNX file needs onnxruntime: pip install 'onnxruntime>=1.31,<2'") from error
        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __reduce__(self):  # a session cannot be copied into another process
        return AgeGenderOnnxModel, (self.path,)

    def __call__(self, pixel_values: torch.Tensor) -> AgeGenderOutput:
        """(B, 3, image_size, image_size) -> logits; the age ranges are those at the time of the export."""
        arrays = self._session.run(self._names, {"pixel_values": pixel_values.float().cpu().numpy()})
        logits = zip(self._names, map(torch.from_numpy, arrays), strict=True)
        return AgeGenderOutput(**dict(logits))
