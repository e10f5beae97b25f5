"""What the page says, in each of its languages: one table, web/texts.json, for Gradio's components and the JavaScript."""

import json
from pathlib import Path

import gradio as gr


TITLE = "How old does this face look?"
DESCRIPTION = "Choose a photo: every face in it gets an age and a gender, guessed from looks."
TEXTS: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "web" / "texts.json").read_text(encoding="utf-8")
)
# By the browser's language; English where the table lacks it.
I18N = gr.I18n(**TEXTS)
