"""The HTTP API: POST /gradio_api/call/predict, `gradio_client`'s api_name="/predict" and, with GRADIO_MCP_SERVER=True, an
MCP tool, all by one function."""

import json
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.mcp import GradioMCPServer
from gradio_client import Client

from demo.handlers import Handlers
from demo.limits import INTERNAL_HEADER, INTERNAL_SECRET
from demo.settings import DEFAULT_RANGES
from demo.uploads import read_upload
from model.errors import AgeGenderError


_NUMBER, _NULL = {"type": "number"}, {"type": "null"}
_LABEL = {"anyOf": [{"type": "string"}, _NULL]}
_PROBABILITIES = {"anyOf": [{"type": "object", "additionalProperties": _NUMBER}, _NULL]}

# Where `abstained` gives a reason, all from `age` to `genders` are null.
FACES_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "box": {"type": "array", "items": {"type": "integer"}},
            "detection_score": {"anyOf": [_NUMBER, _NULL]},
            "roll_degrees": {"anyOf": [{"type": "integer"}, _NULL]},
            "age": {"anyOf": [_NUMBER, _NULL]},
            "age_interval": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, _NULL]},
            "age_range": _LABEL,
            "age_ranges": _PROBABILITIES,
            "gender": _LABEL,
            "genders": _PROBABILITIES,
            "abstained": _LABEL,
        },
    },
}


def add_endpoint(handlers: Handlers, on_model: dict[str, Any]) -> None:
    """Add the endpoint to the page that is being built. It has a choice of models only where there are several.

    Args:
        on_model: options of every Gradio event that runs the model.
    """

    def predict(
        picture: dict, detect: bool = True, age_ranges: str = DEFAULT_RANGES, model: str | None = None
    ) -> list[dict]:
        """Estimate the age and gender that every face in a picture appears to have.

        Args:
            picture: a JPEG, PNG, WebP, HEIC, GIF, BMP, TIFF or AVIF: an uploaded file or, for assistants (MCP), a data URL
                in base64 such as data:image/jpeg;base64,/9j/... Web addresses of other sites are not fetched.
            detect: true finds the faces; false says that the picture is one face crop already.
            age_ranges: FairFace-9, DIT825-5, 14 ranges, 4 bins, or your own such as "0-17, 18-39, 40+".
            model: which of the models offered.

        Returns:
            One object a face: box [x0, y0, x1, y1] in pixels of the upright picture, detection_score, roll_degrees (how far
            the face is turned, clockwise, or null), age in years, age_interval [low, high], age_range,
            age_ranges {label: probability}, gender (a label or "unsure"), genders {label: probability}, abstained (null,
            or the reason for no answer).
        """
        try:
            return handlers.predict(read_upload(picture), detect, age_ranges, model)
        except AgeGenderError as error:
            # The traceback in the log would hold the picture's name.
            raise gr.Error(str(error), title="This cannot be used", print_exception=False) from None

    names = list(handlers.models)
    inputs = [
        gr.Image(type="filepath", visible=False, label="picture"),
        gr.Checkbox(True, visible=False, label="detect"),
        gr.Textbox(DEFAULT_RANGES, visible=False, label="age_ranges"),
        gr.Dropdown(names, value=names[0], visible=False, label="model"),
    ]
    gr.Button(visible=False).click(
        predict,
        inputs if len(names) > 1 else inputs[:-1],
        Api(None, FACES_SCHEMA, "faces"),
        api_name="predict",
        **on_model,
    )


class JsonMCPServer(GradioMCPServer):
    """An MCP server whose answers are JSON, and whose own requests are not counted as a client's.

    Since 5.28, the first version with MCP, Gradio answers with `str(output)`, which writes `None` and 'single quotes':
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/mcp.py#L1578. And one HTTP client uploads and asks for
    all MCP clients: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/mcp.py#L592.
    """

    def postprocess_output_data(self, data: list, root_url: str) -> list:
        return [self.types.TextContent(type="text", text=json.dumps(output)) for output in data]

    def _get_or_create_client(self) -> Client:
        if self.local_url is None:  # before the start is over Gradio would ask whatever host the caller names
            raise ValueError("The demo is starting. Try again in a moment.")
        client = super()._get_or_create_client()
        client.headers[INTERNAL_HEADER] = INTERNAL_SECRET
        return client
