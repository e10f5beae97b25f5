"""The data card's figures, drawn from a manifest. None shows a face."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainer.data.card import AGE_RANGES, RACE_ORDER, age_range_index
from trainer.data.labels import GENDERS, UNKNOWN, UNKNOWN_RACE
from trainer.plotting import BLUE, GREY, ORANGE, save_figures


def draw_data_figures(manifest: pd.DataFrame, folder: Path) -> list[Path]:
    """Write each figure that has something to show as PNG into `folder`, and return their paths."""
    kept = manifest[manifest["kept"]]
    figures = {}
    if (kept["age"] != UNKNOWN).any():
        figures["ages"] = draw_ages(kept)
    if (kept["age_low"] != UNKNOWN).any() and (kept["race"] != UNKNOWN_RACE).any():
        figures["races_by_age"] = draw_races_by_age(kept)
    if (~manifest["kept"]).any():
        figures["removed"] = draw_removed(manifest)
    if age_spreads(manifest).size:
        figures["label_noise"] = draw_label_noise(manifest)
    return save_figures(figures, folder)


def draw_ages(kept: pd.DataFrame) -> Figure:
    """Histogram of single years by gender."""
    figure, axes = _axes("Age (years)", "Pictures", (8, 3.5))
    known = kept[kept["age"] != UNKNOWN]
    bins = np.arange(known["age"].max() + 2) - 0.5
    parts = {name: known[known["gender"] == code]["age"] for code, name in enumerate(GENDERS)}
    unknown = known[known["gender"] == UNKNOWN]["age"]
    if len(unknown):
        parts["unknown"] = unknown
    axes.hist(
        list(parts.values()), bins=bins, stacked=True, label=list(parts), color=[BLUE, ORANGE, GREY][: len(parts)]
    )
    axes.legend(frameon=False)
    return figure


def draw_races_by_age(kept: pd.DataFrame) -> Figure:
    """Heat map of race by age range: how many pictures each cell has."""
    counts = np.zeros((len(RACE_ORDER), len(AGE_RANGES)), int)
    for race, cell in zip(kept["race"], age_range_index(kept), strict=True):
        if cell >= 0:
            counts[RACE_ORDER.index(race), cell] += 1
    figure, axes = _axes("Age range (years)", "", (8, 3.5))
    axes.imshow(np.log1p(counts), cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(AGE_RANGES)), AGE_RANGES)
    axes.set_yticks(range(len(RACE_ORDER)), RACE_ORDER)
    for row, column in np.ndindex(*counts.shape):
        dark = np.log1p(counts[row, column]) > np.log1p(counts.max()) * 0.6
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color="white" if dark else "black")
    return figure


def draw_removed(manifest: pd.DataFrame) -> Figure:
    """What was dropped, by reason."""
    reasons = manifest[~manifest["kept"]]["reason"].str.partition(":")[0].value_counts().sort_values()
    figure, axes = _axes("Files", "", (8, 0.8 + 0.4 * len(reasons)))
    bars = axes.barh(reasons.index, reasons.to_numpy(), color=BLUE)
    axes.bar_label(bars, padding=3)
    axes.margins(x=0.12)
    return figure


def age_spreads(manifest: pd.DataFrame) -> np.ndarray:
    """Difference in years between the oldest and the youngest label of each group with two known ages or more."""
    known = manifest[(manifest["source_age"] != UNKNOWN) & (manifest["group"] != "")]
    ages = known.groupby("group")["source_age"]
    return (ages.max() - ages.min())[ages.size() > 1].to_numpy()


def draw_label_noise(manifest: pd.DataFrame) -> Figure:
    """How far apart the ages of copies of one picture are."""
    spreads = age_spreads(manifest)
    figure, axes = _axes("Oldest minus youngest age among the copies of a picture (years)", "Groups", (8, 3))
    axes.hist(spreads, bins=np.arange(spreads.max() + 2) - 0.5, color=BLUE)
    return figure


def _axes(x_label: str, y_label: str, size_wh: tuple[float, float]):
    figure = Figure(figsize=size_wh, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
