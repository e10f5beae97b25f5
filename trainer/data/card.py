"""Render the data card of a prepared set, README.md with figures. No figure shows a face."""

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from huggingface_hub import DatasetCardData
from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model_card.run_record import known_sets
from trainer.data.arguments import DataArguments
from trainer.data.labels import GENDERS, UNKNOWN, UNKNOWN_RACE
from trainer.data.report import AGE_RANGES, RACE_ORDER
from trainer.data.rows import CROP_SIDE
from trainer.data.splits import SPLITS, age_strata
from trainer.plotting import BLUE, GREY, ORANGE, save_figures
from trainer.recipe import as_flags
from trainer.run_record import public_name


TEMPLATE = Path(__file__).with_name("card_template.md")
CAPTIONS = {"ages": "Ages by gender", "races_by_age": "Race by age range"}
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
_NO_EFFECT = ("cache_dir", "num_proc", "streaming")  # arguments that do not change the result


def render_data_card(
    report: dict[str, Any], figures: list[str], data_args: DataArguments, seed: int, repo_id: str | None
) -> str:
    """The text of README.md.

    Args:
        report: what `trainer.data.report.describe_data` returned.
        figures: names of the PNG files in `figures/`, without suffix.
        data_args: how the set was prepared.
        seed: of the splits.
        repo_id: user/dataset on the Hub, if it is pushed.
    """
    source = public_name(data_args.dataset)
    is_utkface = "UTKFace" in known_sets(source)
    card_data = DatasetCardData(
        pretty_name=f"{source}, cleaned and split without leaks",
        task_categories=["image-classification"],
        license="other",
        size_categories=[next(name for limit, name in _SIZES if report["kept"] < limit)],
        tags=["age-estimation", "gender", "faces"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in SPLITS],
            }
        ],
    )
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["interval"] = lambda score, form: "{} [{}, {}]".format(*map(form.format, score))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=card_data.to_yaml(),
        title="UTKFace" if is_utkface else plain_markdown(source),
        source=plain_markdown(source),
        source_is_utkface=is_utkface,
        repo_id=repo_id,
        report=report,
        figures=figures,
        captions=CAPTIONS,
        aligned=data_args.align,
        crop_side=CROP_SIDE,
        split_by=data_args.split_by,
        max_age_spread=data_args.max_age_spread,
        split_rule=split_rule(data_args, seed),
        splits=SPLITS,
        age_ranges=AGE_RANGES,
        command=preparation_command(data_args, seed),
    )


def split_rule(data_args: DataArguments, seed: int) -> str:
    """A sentence that says how the splits were made."""
    if data_args.manifest:
        return f"Taken from {plain_markdown(Path(data_args.manifest).name)}."
    validation = f"{data_args.validation_fraction:.0%}"
    if data_args.folds:
        parts = (
            f"Fold {data_args.fold} of {data_args.folds} (counted from 0) is test. {validation} of all is validation"
        )
    else:
        parts = f"{validation} validation, {data_args.test_fraction:.0%} test"
    return (
        f"{parts}; stratified by age range and gender. The pictures' content and the seed {seed} alone decide: neither "
        "file names nor their order matter."
    )


def plain_markdown(text: str) -> str:
    """A name that others chose, in one line that Markdown shows as it is: no links, HTML, headings or table cells."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def preparation_command(data_args: DataArguments, seed: int) -> str:
    """The command that prepares the same set, without this machine's paths; a shell runs no part of a name."""
    changed = {
        field.name: getattr(data_args, field.name)
        for field in fields(data_args)
        if field.name not in ("dataset", *_NO_EFFECT) and getattr(data_args, field.name) != field.default
    }
    if data_args.manifest:
        changed["manifest"] = Path(data_args.manifest).name
    flags = as_flags({"dataset": public_name(data_args.dataset), "seed": seed} | changed)
    return shlex.join(["python", "-m", "scripts.prepare_data", *map(_one_line, flags)])


def draw_data_figures(manifest: pd.DataFrame, folder: Path) -> list[Path]:
    """Write each figure that has something to show as PNG into `folder`, and return their paths."""
    kept = manifest[manifest["kept"]]
    figures = {}
    if (kept["age"] != UNKNOWN).any():
        figures["ages"] = _draw_ages(kept)
    if (kept["age_low"] != UNKNOWN).any() and (kept["race"] != UNKNOWN_RACE).any():
        figures["races_by_age"] = _draw_races_by_age(kept)
    if (~manifest["kept"]).any():
        figures["removed"] = _draw_removed(manifest)
    spreads = _age_spreads(manifest)
    if spreads.size:
        figures["label_noise"] = _draw_age_spreads(spreads)
    return save_figures(figures, folder)


def _draw_ages(kept: pd.DataFrame) -> Figure:
    """Histogram of single years by gender."""
    figure, axes = _new_figure("Age (years)", "Pictures", (8, 3.5))
    known = kept[kept["age"] != UNKNOWN]
    bins = (np.arange(known["age"].max() + 2) - 0.5).tolist()
    parts = {name: known[known["gender"] == code]["age"] for code, name in enumerate(GENDERS)}
    unknown = known[known["gender"] == UNKNOWN]["age"]
    if len(unknown):
        parts["unknown"] = unknown
    axes.hist(
        list(parts.values()), bins=bins, stacked=True, label=list(parts), color=[BLUE, ORANGE, GREY][: len(parts)]
    )
    axes.legend(frameon=False)
    return figure


def _draw_races_by_age(kept: pd.DataFrame) -> Figure:
    """Heat map of race by age range: how many pictures each cell has."""
    counts = np.zeros((len(RACE_ORDER), len(AGE_RANGES)), int)
    for race, cell in zip(kept["race"], age_strata(kept), strict=True):
        if cell >= 0:
            counts[RACE_ORDER.index(race), cell] += 1
    figure, axes = _new_figure("Age range (years)", "", (8, 3.5))
    axes.imshow(np.log1p(counts), cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(AGE_RANGES)), AGE_RANGES)
    axes.set_yticks(range(len(RACE_ORDER)), RACE_ORDER)
    for row, column in np.ndindex(*counts.shape):
        dark = np.log1p(counts[row, column]) > np.log1p(counts.max()) * 0.6
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color="white" if dark else "black")
    return figure


def _draw_removed(manifest: pd.DataFrame) -> Figure:
    """Number of dropped files by reason."""
    reasons = manifest[~manifest["kept"]]["reason"].str.partition(":")[0].value_counts().sort_values()
    figure, axes = _new_figure("Files", "", (8, 0.8 + 0.4 * len(reasons)))
    bars = axes.barh(reasons.index, reasons.to_numpy(), color=BLUE)
    axes.bar_label(bars, padding=3)
    axes.margins(x=0.12)
    return figure


def _age_spreads(manifest: pd.DataFrame) -> np.ndarray:
    """Years between the oldest and the youngest label of each group of duplicates with two known ages or more."""
    known = manifest[(manifest["source_age"] != UNKNOWN) & (manifest["group"] != "")]
    ages = known.groupby("group")["source_age"]
    return (ages.max() - ages.min())[ages.size() > 1].to_numpy()


def _draw_age_spreads(spreads_years: np.ndarray) -> Figure:
    figure, axes = _new_figure("Oldest minus youngest age label in a group of duplicates (years)", "Groups", (8, 3))
    axes.hist(spreads_years, bins=(np.arange(spreads_years.max() + 2) - 0.5).tolist(), color=BLUE)
    return figure


def _new_figure(x_label: str, y_label: str, size_inches: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_inches, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
