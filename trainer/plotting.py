"""What the figures have in common: colours, files, and scores with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


BLUE, ORANGE, GREY = "#2066a8", "#c8641a", "#8a8a8a"  # told apart in print and with any kind of colour vision


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=90, facecolor="white")


def save_figures(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """As NAME.png in a folder that is made if need be; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        save(figure, paths[-1])
    return paths


def points(
    ax: Axes,
    positions: np.ndarray,
    scores: Sequence[dict[str, Any]],
    color: str,
    label: str | None,
    scale: float = 1,
    *,
    horizontal: bool = False,
) -> None:
    """Scores with their intervals; a score without an interval is a point alone."""
    values = np.array([score["value"] for score in scores]) * scale
    low, high = (
        np.array([score["value"] if score[end] is None else score[end] for score in scores]) * scale
        for end in ("low", "high")
    )
    # a resampled median or maximum may lie on one side of the value itself
    spread = np.maximum([values - low, high - values], 0)
    style = {"color": color, "label": label, "marker": "o", "markersize": 4, "linestyle": "", "capsize": 3}
    if horizontal:
        ax.errorbar(values, positions, xerr=spread, **style)
    else:
        ax.errorbar(positions, values, yerr=spread, **style)
