"""An exported model on onnxruntime, with the interface of AgeGenderModel.

The file is not named after ONNX, because Inference Endpoints download no file with "onnx" in its name.
"""

from pathlib import Path

import torch

from .errors import AgeGenderError
from .forked_processes import ForkCheck
from .model_files import ModelFileError, one_line
from .modeling_age_gender import AgeGenderOutput


OUTPUTS = ("age_logits", "age_range_logits", "gender_logits")


class MissingPackageError(AgeGenderError, ImportError):
    """A package that this model does not always need is not installed."""


class AgeGenderOnnxModel:
    """A file that `scripts.export_onnx` wrote. It runs in fp32 on the CPU, with as many threads as torch would use."""

    def __init__(self, path: str | Path):
        """
        Raises:
            MissingPackageError: onnxruntime is not installed.
            ModelFileError: there is no such file, or it is not one that `scripts.export_onnx` wrote.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError("An ONNX file needs onnxruntime: pip install 'onnxruntime>=1.31,<2'") from error
        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelFileError(f"{path} cannot be read as an ONNX file: {one_line(error)}") from error
        self._since_made = ForkCheck()
        self._names = [output.name for output in self._session.get_outputs()]
        if set(self._names) != set(OUTPUTS):
            raise ModelFileError(
                f"Expected an ONNX file that scripts.export_onnx wrote, with {', '.join(OUTPUTS)}; {path} has "
                f"{one_line(', '.join(self._names))}."
            )

    def __reduce__(self) -> tuple:  # a session cannot be pickled
        return AgeGenderOnnxModel, (self.path,)

    def __call__(self, pixel_values: torch.Tensor) -> AgeGenderOutput:
        """(B, 3, image_size, image_size) -> logits; `age_range_logits` are of the ranges at the time of the export."""
        if self._since_made.was_forked():
            self._session = AgeGenderOnnxModel(self.path)._session
        arrays = self._session.run(self._names, {"pixel_values": pixel_values.float().cpu().numpy()})
        logits = zip(self._names, map(torch.from_numpy, arrays), strict=True)
        return AgeGenderOutput(**dict(logits))
