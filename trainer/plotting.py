"""What all figures share: colours, PNG files, and points with confidence intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model_card.output_files import fill_atomically


BLUE, ORANGE, GREY = "#2066a8", "#c8641a", "#8a8a8a"  # distinct in print and for colour-blind readers


def save(figure: Figure, path: Path) -> None:
    fill_atomically(
        path, lambda unfinished: figure.savefig(unfinished, dpi=90, facecolor="white", format=path.suffix[1:])
    )


def save_figures(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Write each figure to `folder`/NAME.png; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        save(figure, paths[-1])
    return paths


def points(
    ax: Axes,
    positions: np.ndarray,
    scores: Sequence[Mapping[str, Any]],
    color: str,
    label: str | None,
    scale: float = 1,
    *,
    horizontal: bool = False,
) -> None:
    """Draw scores with error bars; a score without an interval is a point.

    Args:
        positions: (N,) places on the other axis.
        scores: N scores, each with `value`, `low` and `high`.
        scale: factor of the values, such as 100 for percent.
        horizontal: draw the values on the x axis.
    """
    values = np.array([score["value"] for score in scores]) * scale
    low, high = (
        np.array([score["value"] if score[end] is None else score[end] for score in scores]) * scale
        for end in ("low", "high")
    )
    # the interval of a median or maximum may lie on one side of the value
    spread = np.maximum([values - low, high - values], 0)
    style: dict[str, Any] = {
        "color": color,
        "label": label,
        "marker": "o",
        "markersize": 4,
        "linestyle": "",
        "capsize": 3,
    }
    if horizontal:
        ax.errorbar(values, positions, xerr=spread, **style)
    else:
        ax.errorbar(positions, values, yerr=spread, **style)
