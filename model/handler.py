"""Handler of Hugging Face Inference Endpoints: a request's picture in, the pipeline's answer out.

The endpoint loads this file alone, by its path, so it imports none of its siblings.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from PIL import Image
from transformers import pipeline


YUNET_FILE = "face_detection_yunet.onnx"
PARAMETERS = ("age_ranges", "batch_size", "boxes", "detect", "detector", "min_score", "return_years")


class EndpointHandler:
    """`EndpointHandler("/repository")({"inputs": ..., "parameters": {...}})`."""

    def __init__(self, path: str = ""):
        """`path`: the folder that holds the model's repository."""
        # The endpoint's own download leaves every .onnx file out (create_artifact_filter in
        # huggingface/huggingface-inference-toolkit), and without this one the pipeline finds fewer faces.
        if not Path(path, YUNET_FILE).is_file() and "HF_MODEL_ID" in os.environ:
            hf_hub_download(
                os.environ["HF_MODEL_ID"], YUNET_FILE, revision=os.environ.get("HF_REVISION"), local_dir=path
            )
        self.pipe = pipeline("age-gender-classification", model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> list:
        """
        Args:
            data: "inputs" is a picture, or a list of pictures: base64 of a picture file (a data: URL will do), bytes, or
                the PIL image that the endpoint makes of a request whose body is a picture. "parameters", if any, are
                those of the pipeline: age_ranges, batch_size, boxes, detect, detector, min_score, return_years.

        Returns:
            One dict a face, from left to right; for a list of pictures one such list each.

        Raises:
            ValueError: a picture or parameter cannot be used; the endpoint sends the message with status 400.
        """
        parameters = data.get("parameters") or {}
        unknown = sorted(set(parameters) - set(PARAMETERS))
        if unknown:
            raise ValueError(f"Unknown parameters: {', '.join(unknown)}. There are {', '.join(PARAMETERS)}.")
        if "min_score" in parameters:  # in a request's address numbers arrive as text
            parameters = parameters | {"min_score": float(parameters["min_score"])}
        inputs = data.get("inputs")
        pictures = [_read(picture) for picture in inputs] if isinstance(inputs, list) else _read(inputs)
        return self.pipe(pictures, **parameters)


def _read(picture: Any) -> bytes | Image.Image:
    """Text is always the picture itself: an address or a path would make the server fetch what the caller names."""
    if isinstance(picture, (bytes, Image.Image)):
        return picture
    if not isinstance(picture, str):
        raise ValueError(f"Expected a picture as base64 text under 'inputs'; got {type(picture).__name__}.")
    text = picture.split(",", 1)[1] if picture.startswith("data:") and "," in picture else picture
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # some encoders break lines
    except (binascii.Error, ValueError):
        raise ValueError(
            "Expected base64 of a picture file under 'inputs', which this text is not. Addresses and paths are not "
            "fetched: send the picture itself."
        ) from None
