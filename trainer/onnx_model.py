"""The exported network on onnxruntime in the place of AgeGenderModel, for AgeGenderPipeline."""

from pathlib import Path

import torch
from transformers.utils import cached_file

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderOutput


class AgeGenderOnnxModel:
    """What `scripts.export_onnx` wrote, called as `AgeGenderModel` is.

    >>> model = AgeGenderOnnxModel.from_pretrained("model", "onnx/model_int8.onnx")
    >>> pipe = AgeGenderPipeline(model=model, image_processor=AutoImageProcessor.from_pretrained("model"))
    """

    dtype = torch.float32
    device = torch.device("cpu")
    hf_device_map = {"": "cpu"}  # keeps a pipeline from moving it to a GPU that happens to be there

    def __init__(self, config: AgeGenderConfig, path: str | Path):
        """`path`: the .onnx file. It computes on as many threads as torch would.

        Raises:
            ImportError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("AgeGenderOnnxModel needs onnxruntime: pip install 'onnxruntime>=1.31,<2'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.config = config
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, file_name: str = "onnx/model.onnx", revision: str | None = None
    ) -> "AgeGenderOnnxModel":
        """Load from a folder or a Hub id. Raises `OSError` where there is no such folder, repository or file."""
        config = AgeGenderConfig.from_pretrained(name_or_path, revision=revision)
        return cls(config, cached_file(str(name_or_path), file_name, revision=revision))

    def __call__(self, pixel_values: torch.Tensor) -> AgeGenderOutput:
        """(B, 3, image_size, image_size) float32 -> logits; the age ranges are those at the time of the export."""
        arrays = self._session.run(self._names, {"pixel_values": pixel_values.numpy()})
        logits = zip(self._names, map(torch.from_numpy, arrays), strict=True)
        return AgeGenderOutput(**dict(logits))

    def eval(self) -> "AgeGenderOnnxModel":
        """As it is: nothing of it can be trained."""
        return self
