"""Handler for Hugging Face Inference Endpoints: runs the pipeline on the picture of a request.

The endpoint loads this file by its path, outside of a package, so it imports none of its siblings.
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
        # The endpoint downloads no .onnx file, and without YuNet's the pipeline finds fewer faces. `create_artifact_filter`:
        # https://github.com/huggingface/huggingface-inference-toolkit/blob/main/src/huggingface_inference_toolkit/utils.py
        if not Path(path, YUNET_FILE).is_file() and "HF_MODEL_ID" in os.environ:
            hf_hub_download(
                os.environ["HF_MODEL_ID"], YUNET_FILE, revision=os.environ.get("HF_REVISION"), local_dir=path
            )
        # type: ignore, because transformers' overloads list its own tasks only
        self.pipe = pipeline("age-gender-classification", model=path, trust_remote_code=True)  # type: ignore[call-overload]

    def __call__(self, data: dict[str, Any]) -> list:
        """
        Args:
            data: "inputs" is a picture, or a list of pictures. Each is the base64 of a picture file (or a data: URL),
                bytes, or the PIL image that the endpoint makes of a request whose body is a picture. "parameters" are
                optional, and those of the pipeline's call that `PARAMETERS` lists.

        Returns:
            One dict a face, from left to right; for a list of pictures one such list each.

        Raises:
            ValueError: a picture or a parameter cannot be used. The endpoint sends the message with status 400.
        """
        parameters = data.get("parameters") or {}
        unknown = sorted(set(parameters) - set(PARAMETERS))
        if unknown:
            raise ValueError(f"Unknown parameters: {', '.join(unknown)}. There are {', '.join(PARAMETERS)}.")
        if "min_score" in parameters:  # as text, if it was given in the request's URL
            parameters = parameters | {"min_score": float(parameters["min_score"])}
        inputs = data.get("inputs")
        pictures = [_read(picture) for picture in inputs] if isinstance(inputs, list) else _read(inputs)
        return self.pipe(pictures, **parameters)


def _read(picture: Any) -> bytes | Image.Image:
    """Text is always base64: the server must not fetch a URL or a path that a caller names."""
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
