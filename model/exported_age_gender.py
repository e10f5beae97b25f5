"""An exported model on onnxruntime, with the interface of AgeGenderModel.

The file is not named after ONNX, because Inference Endpoints download no file with "onnx" in its name.
"""

from pathlib import Path
from typing import Any

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

    def check_answers(self, config: Any) -> None:
        """Answer once about a grey crop.

        Args:
            config: the `AgeGenderConfig` of the model that the file is one of.

        Raises:
            ModelFileError: the file takes other crops, answers other questions, or answers with NaN or Inf.
        """
        side = config.image_size
        try:
            output = self(torch.zeros(1, 3, side, side))
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelFileError(f"{self.path} takes no crop of {side} x {side}: {one_line(error)}") from error
        for name, width in (("age_logits", config.max_age + 1), ("gender_logits", len(config.gender_names))):
            logits = output[name]
            if logits.shape != (1, width) or not logits.isfinite().all():
                raise ModelFileError(
                    f"Expected {width} finite {name} of {self.path}, as config.json describes; got "
                    f"{'NaN or Inf' if logits.shape == (1, width) else tuple(logits.shape)}. Export the model again."
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
