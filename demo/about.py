"""What the About tab says of a served model: its best and worst figures, its licence and its card; and the figures by which
visitors choose among several.
"""

import base64
import json
import mimetypes
import os
import re
from collections.abc import Sequence
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
    card = own_card(folder)
    if card is None:
        return None
    data = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    name = data.get("license_name") or data.get("license")
    link = str(data.get("license_link") or "")
    return {"name": str(name), "link": link if link.startswith("https://") else None} if name else None


def compared(models: Sequence[ServedModel]) -> list[dict[str, Any]]:
    """What visitors choose from: each model's name, its kind, and its figures on the first data set by which the ages of all of
    them were measured.
    """
    measured = [{figures["dataset"]: figures for figures in _measured_sets(served.folder)} for served in models]
    common = next((name for name in measured[0] if all(one.get(name, {}).get("age_mae") for one in measured)), None)
    return [
        {"name": served.name, "kind": served.kind, "measured": one.get(common)}
        for served, one in zip(models, measured, strict=True)
    ]


def _measured_sets(folder: Path) -> list[dict[str, Any]]:
    """The figures on its own test faces, then those on other data sets."""
    metrics = _read_metrics(folder)
    outside = metrics.get("outside")
    others = outside.items() if isinstance(outside, dict) else ()
    return [_set_figures(metrics), *({**_set_figures(of_set), "dataset": name} for name, of_set in others)]


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Nothing where there is no metrics.json, or one of another form."""
    try:
        if not stays_inside(folder / "metrics.json", folder):
            return {}
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


def _set_figures(metrics: object) -> dict[str, Any]:
    """None for what was not measured."""
    stated = metrics if isinstance(metrics, dict) else {}
    return {
        "dataset": re.sub(r"\.(tar(\.\w+)?|tgz|zip)$", "", str(stated.get("dataset"))),
        "pictures": stated.get("pictures"),
        "age_mae": _value(metrics, "age", "mae"),
        "within_five_years": _value(metrics, "age", "cs5"),
        "gender_accuracy": _value(metrics, "gender", "accuracy"),
    }


def _figures(folder: Path) -> dict[str, Any]:
    """On its own test faces and by their ages, and `elsewhere`: on another data set, where its own has no ages in years."""
    metrics = _read_metrics(folder)
    if not metrics:
        return {}
    own, *others = _measured_sets(folder)
    with_years = next((figures for figures in others if figures["age_mae"]), None)
    groups = metrics.get("groups")
    by_age = [
        group
        for group in (groups if isinstance(groups, list) else [])
        if isinstance(group, dict) and group.get("by") == "age" and "age" in group
    ]
    return {
        **own,
        "elsewhere": with_years if own["age_mae"] is None else None,
        "by_age": [
            {
                "age": group["age"],
                "age_mae": _value(group, "age_mae"),
                "gender_accuracy": _value(group, "gender_accuracy"),
            }
            for group in by_age
        ],
    }


def _value(metrics: object, *path: str) -> float | None:
    for key in (*path, "value"):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return metrics if isinstance(metrics, (int, float)) else None


def own_card(folder: Path) -> Path | None:
    """The model's README.md; None where there is none, or a link to a file elsewhere."""
    card = folder / "README.md"
    return card if card.is_file() and stays_inside(card, folder) else None


def card_markdown(served: ServedModel) -> str:
    """The model's README.md without the metadata block and with its figures inside."""
    card = own_card(served.folder)
    if card is None:
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
