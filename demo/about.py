"""What the About tab says of a served model: its best and worst figures, then its card."""

import base64
import json
import mimetypes
import os
import re
from pathlib import Path
from typing import Any

from huggingface_hub import RepoCard

from demo.serving import ServedModel
from model.model_files import stays_inside


def about(served: ServedModel) -> tuple[dict[str, Any], str]:
    """-> what web/about.js puts into the visitor's language, and the model's README.md for Gradio's Markdown."""
    links = {"model_page": served.page, "code_page": _code_page(), "license": _license(served.folder)}
    return {"name": served.name, "revision": served.revision, **links, **_figures(served.folder)}, card_markdown(served)


def _code_page() -> str | None:
    """On a Space its files; elsewhere the demo does not know where its code is published."""
    space = os.environ.get("SPACE_ID")
    return f"https://huggingface.co/spaces/{space}/tree/main" if space else None


def _license(folder: Path) -> dict[str, str | None] | None:
    """As the card's metadata names it: `{"name": ..., "link": ...}`."""
    card = folder / "README.md"
    if not card.is_file() or not stays_inside(card, folder):
        return None
    data = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    name = data.get("license_name") or data.get("license")
    link = str(data.get("license_link") or "")
    return {"name": str(name), "link": link if link.startswith("https://") else None} if name else None


def _figures(folder: Path) -> dict[str, Any]:
    """From metrics.json; nothing where there is none, or where a part of it was not measured."""
    try:
        if not stays_inside(folder / "metrics.json", folder):
            return {}
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    by_age = [group for group in metrics.get("groups", []) if group.get("by") == "age"]
    return {
        "dataset": re.sub(r"\.(tar(\.\w+)?|tgz|zip)$", "", str(metrics.get("dataset"))),
        "pictures": metrics.get("pictures"),
        "age_mae": _value(metrics, "age", "mae"),
        "within_five_years": _value(metrics, "age", "cs5"),
        "gender_accuracy": _value(metrics, "gender", "accuracy"),
        "by_age": [
            {
                "age": group["age"],
                "age_mae": _value(group, "age_mae"),
                "gender_accuracy": _value(group, "gender_accuracy"),
            }
            for group in by_age
        ],
    }


def _value(metrics: dict[str, Any], *path: str) -> float | None:
    for key in (*path, "value"):
        metrics = metrics.get(key) or {}
    return metrics if isinstance(metrics, (int, float)) else None


def card_markdown(served: ServedModel) -> str:
    """The model's README.md without the metadata block and with its figures inside."""
    card = served.folder / "README.md"
    if not card.is_file() or not stays_inside(card, served.folder):
        return "This model has no card (README.md in its folder), so nothing is known about its quality."
    text = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).text.lstrip()
    return embed_figures(text, served.folder)


def embed_figures(markdown: str, folder: Path) -> str:
    """`![x](figures/a.png)` -> the same with the picture as a data URL.

    Gradio does not serve them as files: in the Hub's cache they are links out of every folder that it is allowed to serve.
    """

    def embed(match: re.Match) -> str:
        path = folder / "figures" / match[2]
        if not path.is_file() or not stays_inside(path, folder):
            return match[0]
        data = base64.b64encode(path.read_bytes()).decode()
        return f"{match[1]}data:{mimetypes.guess_type(path.name)[0]};base64,{data})"

    return re.sub(r"(!\[[^\]]*\]\()figures/([^/)]+)\)", embed, markdown)
