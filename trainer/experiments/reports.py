"""What a comparison writes: its runs as a Markdown table, as JSON and as a plot."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from transformers import TrainingArguments

from model_card.metrics_text import Score, markdown_table, with_interval
from model_card.output_files import write_atomically
from trainer.experiments.runs import SCORES, Run
from trainer.plotting import BLUE, GREY, points, save


DRAWN = ("age MAE, years", "age within five years, %", "FairFace-9 accuracy, %", "gender accuracy, %")


def write_comparison(runs: Sequence[Run], folder: Path, title: str, *, spread: bool = False) -> str:
    """Write results.md, results.json and results.png into `folder`.

    Args:
        spread: add a row with mean and standard deviation over all runs.

    Returns:
        The table of results.md.
    """
    table = format_table(runs, spread=spread)
    write_atomically(folder / "results.md", f"{title}\n\n{table}\n")
    write_atomically(folder / "results.json", json.dumps(summarize(runs), indent=1) + "\n")
    save(draw_runs(runs), folder / "results.png")
    return table


def summarize(runs: Sequence[Run]) -> dict[str, Any]:
    """Every run's scores, and their mean and standard deviation over all runs (None for a single run)."""
    titles = [title for title in SCORES if all(title in run.scores() for run in runs)]
    values = {title: _values([run.scores()[title] for run in runs]) for title in titles}
    return {
        "runs": [
            {
                "name": run.name,
                "seed": run.record["arguments"].get("seed", TrainingArguments.seed),
                "faces": run.metrics["pictures"],
                "scores": run.scores(),
            }
            for run in runs
        ],
        "mean": {title: mean(of) for title, of in values.items()},
        "standard deviation": {title: stdev(of) if len(of) > 1 else None for title, of in values.items()},
    }


def format_table(runs: Sequence[Run], *, spread: bool = False) -> str:
    """A row for each name: the scores of a single run with their 95 % intervals, or mean ± standard deviation of several.

    The last row holds the median age's and the majority class's scores.
    """
    titles = [title for title in SCORES if any(title in run.scores() for run in runs)]
    rows = [_row(name, list(of_name), titles) for name, of_name in groupby(runs, key=lambda run: run.name)]
    if spread:
        rows.append(_row("mean ± standard deviation", runs, titles))
    # each fold of a cross-validation has its own faces; all runs of a comparison have the same
    baselines = [run.baseline_scores() for run in (runs if spread else runs[:1])]
    cells = (_cell(title, [scores[title] for scores in baselines if title in scores]) for title in titles)
    rows.append(["median and majority-class baseline", "", "", *cells, "", ""])
    return markdown_table(["", "runs", "faces", *titles, "parameters", "minutes"], rows)


def _row(name: str, runs: Sequence[Run], titles: Sequence[str]) -> list[str]:
    return [
        name,
        str(len(runs)),
        f"{sum(run.metrics['pictures'] for run in runs) // len(runs):,}",
        *(_cell(title, [run.scores()[title] for run in runs if title in run.scores()]) for title in titles),
        f"{mean(run.record['parameters'] for run in runs) / 1e6:.2f} M",
        f"{mean(run.record['seconds'] for run in runs) / 60:.1f}",
    ]


def _cell(title: str, scores: Sequence[Score]) -> str:
    decimals = SCORES[title].decimals
    if len(scores) > 1:
        values = _values(scores)
        return f"{mean(values):.{decimals}f} ± {stdev(values):.{decimals}f}"
    return with_interval(scores[0] if scores else None, 1, decimals)


def _values(scores: Sequence[Score]) -> list[float]:
    return [score["value"] for score in scores if score["value"] is not None]


def draw_runs(runs: Sequence[Run]) -> Figure:
    """A panel for each score: a point with its 95 % interval for each run, in rows by name, and the mean of them all."""
    titles = [title for title in DRAWN if any(title in run.scores() for run in runs)]
    names = list(dict.fromkeys(run.name for run in runs))
    figure = Figure(figsize=(3.6 * len(titles) + 1.5, 0.4 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles, strict=True):
        for row, name in enumerate(names):
            scores = [run.scores()[title] for run in runs if run.name == name and title in run.scores()]
            places = row + 0.5 * ((np.arange(len(scores)) + 0.5) / len(scores) - 0.5)
            points(ax, places, scores, BLUE, None, horizontal=True)
        drawn = _values([run.scores()[title] for run in runs if title in run.scores()])
        ax.axvline(mean(drawn), color=GREY, ls=":")
        ax.set(xlabel=title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure
