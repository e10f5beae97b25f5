"""The API page's snippets, which answer when they are pasted: they name one of the demo's own example pictures.

Gradio's name a picture of another site, which this demo does not fetch; those for curl need a file that is called
/path/to/your/file, and a shell in which `read` sets a variable behind a pipe:
https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/components/image.py#L243 and
https://github.com/gradio-app/gradio/blob/gradio%406.31.0/client/python/gradio_client/snippet.py#L217
"""

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client import handle_file
from gradio_client.snippet import generate_code_snippets
from hf_gradio.cli import generate_cli_snippet  # type: ignore[import-untyped]


FOLDER = Path(__file__).resolve().parents[1] / "examples"
NAMES = {path.name for path in FOLDER.glob("*.jpg")}
SHOWN = "examples/astronaut.jpg"
GRADIOS_PICTURE = gr.Image.example_value(None)  # type: ignore[arg-type]  # it does not use itself


def code_snippets(name: str, endpoint: dict[str, Any], root: str, **options: Any) -> dict[str, str]:
    """In place of Gradio's function of `gradio.routes`.

    Args:
        endpoint: what GET /gradio_api/info says of it; its example is replaced, too.
        root: the address at which the visitor sees the demo.
    """
    picture = f"{root.rstrip('/')}/{SHOWN}"
    for parameter in endpoint["parameters"]:
        if parameter["component"] == "Image":
            parameter["example_input"] = handle_file(picture)
    file = Path(SHOWN).name
    said = f"# POST {name} takes the picture and answers in the same request"
    curl = f"{said}\ncurl -s -o {file} {picture}\ncurl -s -F picture=@{file} {root.rstrip('/')}{name}"
    return generate_code_snippets(name, endpoint, root, **options) | {"bash": curl}


def cli_snippets(endpoints: dict[str, Any]) -> dict[str, str]:
    """In place of Gradio's, which puts the demo's address, or on a Space its name, in place of {space_id}."""
    host = os.environ.get("SPACE_HOST")
    root = f"https://{host}" if host else "{space_id}"
    return {
        name: snippet.replace(GRADIOS_PICTURE, f"{root}/{SHOWN}")
        for name, snippet in generate_cli_snippet(endpoints).items()
    }


def example_upload(url: str, uploads: Path) -> str | None:
    """A copy in the folder of uploads of the example picture that the address names; None where it names none.

    Nothing is fetched, so the host does not matter: only the file's name counts.
    """
    found = re.search(r"/examples/([^/]+)$", url)
    if found is None or found[1] not in NAMES:
        return None
    target, half = uploads / f"example-{found[1]}", uploads / f"example-{secrets.token_hex(8)}"
    shutil.copyfile(FOLDER / found[1], half)
    half.replace(target)
    return str(target)
