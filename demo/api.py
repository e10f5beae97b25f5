"""The HTTP API: POST /gradio_api/call/predict, `gradio_client`'s api_name="/predict" and, with GRADIO_MCP_SERVER=True, an
MCP tool, all by one function; and the snippets of the API page, which answer when they are pasted.

The snippets name one of the demo's own example pictures. Gradio's name a picture of another site, which this demo does not
fetch; those for curl need a file that is called /path/to/your/file, and a shell in which `read` sets a variable behind a pipe:
https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/components/image.py#L243 and
https://github.com/gradio-app/gradio/blob/gradio%406.31.0/client/python/gradio_client/snippet.py#L217
"""

import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.mcp import GradioMCPServer
from gradio_client import Client, handle_file
from gradio_client.snippet import generate_code_snippets
from hf_gradio.cli import generate_cli_snippet  # type: ignore[import-untyped]

from demo.device_files import EXAMPLES
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

EXAMPLE_NAMES = {path.name for path in EXAMPLES.glob("*.jpg")}
EXAMPLE = "examples/astronaut.jpg"
# Gradio's client for JavaScript keeps its connection, so that node never ends; fetch needs no package, in browsers too.
JAVASCRIPT = """// {said}; no package is needed
const picture = await (await fetch("{picture}")).blob();
const form = new FormData();
form.append("picture", picture, "{file}");
const response = await fetch("{address}", {{ method: "POST", body: form }});
console.log(JSON.stringify(await response.json(), null, 2));"""
GRADIOS_PICTURE = gr.Image.example_value(None)  # type: ignore[arg-type]  # it does not use itself


def add_endpoint(handlers: Handlers, on_model: dict[str, Any]) -> None:
    """Add the endpoint to the page that is being built. It has a choice of models only where there are several.

    Args:
        on_model: options of every Gradio event that runs the model.
    """

    def predict(
        picture: dict, detect: bool = True, age_ranges: str = DEFAULT_RANGES, model: str | None = None
    ) -> list[dict]:
        """Estimate the age and gender that every face in a picture appears to have.

        The picture is an uploaded file or, for assistants (MCP), a data URL in base64 such as data:image/jpeg;base64,/9j/...
        Web addresses of other sites are not fetched.

        Args:
            picture: a JPEG, PNG, WebP, HEIC, GIF, BMP, TIFF or AVIF, as a file or a data URL in base64.
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
            raise refusal(str(error)) from None

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


def refusal(text: str) -> gr.Error:
    """To be raised for what a visitor or a program has sent. Its traceback, which could hold that, is not logged."""
    return gr.Error(text, title="This cannot be used", print_exception=False)


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


def code_snippets(name: str, endpoint: dict[str, Any], root: str, **options: Any) -> dict[str, str]:
    """In place of Gradio's function of `gradio.routes`.

    Args:
        endpoint: what GET /gradio_api/info says of it; its example is replaced, too.
        root: the address at which the visitor sees the demo.
    """
    picture = f"{root.rstrip('/')}/{EXAMPLE}"
    for parameter in endpoint["parameters"]:
        if parameter["component"] == "Image":
            parameter["example_input"] = handle_file(picture)
    file, address = Path(EXAMPLE).name, root.rstrip("/") + name
    said = f"POST {name} takes the picture and answers in the same request"
    curl = f"# {said}\ncurl -s -o {file} {picture}\ncurl -s -F picture=@{file} {address}"
    fetch = JAVASCRIPT.format(said=said, picture=picture, file=file, address=address)
    return generate_code_snippets(name, endpoint, root, **options) | {"bash": curl, "javascript": fetch}


def cli_snippets(endpoints: dict[str, Any]) -> dict[str, str]:
    """In place of Gradio's, which puts the demo's address, or on a Space its name, in place of {space_id}."""
    host = os.environ.get("SPACE_HOST")
    root = f"https://{host}" if host else "{space_id}"
    return {
        name: snippet.replace(GRADIOS_PICTURE, f"{root}/{EXAMPLE}")
        for name, snippet in generate_cli_snippet(endpoints).items()
    }


def example_upload(url: str, uploads: Path) -> str | None:
    """A copy in the folder of uploads of the example picture that the address names; None where it names none.

    Nothing is fetched, so the host does not matter: only the file's name counts.
    """
    found = re.search(r"/examples/([^/]+)$", url)
    if found is None or found[1] not in EXAMPLE_NAMES:
        return None
    target, half = uploads / f"example-{found[1]}", uploads / f"example-{secrets.token_hex(8)}"
    shutil.copyfile(EXAMPLES / found[1], half)
    half.replace(target)
    return str(target)
