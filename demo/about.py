"""The served model's own card, as Markdown that the page can show."""

import re
from pathlib import Path

from demo.serving import ServedModel


def about_markdown(served: ServedModel) -> str:
    """What is being served, then README.md of its folder without the metadata block, its figures pointed at the server."""
    heading = f"**Served here:** `{served.name}`, {served.revision}."
    card = served.folder / "README.md"
    if not card.is_file():
        return f"{heading}\n\nThis model has no card (README.md in its folder), so nothing is known about its quality."
    return f"{heading}\n\n---\n\n{_point_figures(strip_front_matter(card.read_text(encoding='utf-8')), served.folder)}"


def strip_front_matter(text: str) -> str:
    """Without the YAML block between two lines of three dashes that a Hub card starts with."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).lstrip()


def figures_folder(served: ServedModel) -> Path:
    return served.folder / "figures"


def _point_figures(markdown: str, folder: Path) -> str:
    """`![x](figures/a.png)` -> a path that Gradio serves; relative, so that it works behind a proxy with a path prefix."""
    return re.sub(r"(!\[[^\]]*\]\()(?=figures/)", rf"\g<1>gradio_api/file={folder.as_posix()}/", markdown)
