"""The served model's own card, as Markdown that the page can show."""

import base64
import mimetypes
import re
from pathlib import Path

from demo.serving import ServedModel


def about_markdown(served: ServedModel) -> str:
    """What is being served, then README.md of its folder without the metadata block and with its figures inside."""
    heading = f"**Served here:** `{served.name}`, {served.revision}."
    card = served.folder / "README.md"
    if not card.is_file():
        return f"{heading}\n\nThis model has no card (README.md in its folder), so nothing is known about its quality."
    return f"{heading}\n\n---\n\n{embed_figures(strip_front_matter(card.read_text(encoding='utf-8')), served.folder)}"


def strip_front_matter(text: str) -> str:
    """Without the YAML block between two lines of three dashes that a Hub card starts with."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).lstrip()


def embed_figures(markdown: str, folder: Path) -> str:
    """`![x](figures/a.png)` -> the same with the picture as a data URL.

    Gradio would not serve them as files: in the Hub's cache they are links that lead out of any folder it is allowed.
    """

    def embed(match: re.Match) -> str:
        path = folder / "figures" / match[2]
        if not path.is_file():
            return match[0]
        data = base64.b64encode(path.read_bytes()).decode()
        return f"{match[1]}data:{mimetypes.guess_type(path.name)[0]};base64,{data})"

    return re.sub(r"(!\[[^\]]*\]\()figures/([^/)]+)\)", embed, markdown)
