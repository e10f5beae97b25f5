"""The runs of an experiment side by side: a table in Markdown, a plot, and both as files."""

import json
import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from transformers import TrainingArguments

from model_card.metrics_text import with_interval
from trainer.experiments.runs import SCORES, Run
from trainer.plotting import BLUE, GREY, ORANGE, points, save


DRAWN = ("age MAE, years", "age within five years, %", "FairFace-9, %", "gender, %")


def write_comparison(runs: Sequence[Run], folder: Path, title: str, *, spread: bool = False) -> str:
    """Write results.md, results.json and results.png; the table. `spread`: add mean and standard deviation over all."""
    table = format_table(runs, spread=spread)
    (folder / "results.md").write_text(f"{title}\n\n{table}\n", encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(summarize(runs), indent=1) + "\n", encoding="utf-8")
    save(draw_runs(runs), folder / "results.png")
    return table


def summarize(runs: Sequence[Run]) -> dict[str, Any]:
    """Every run's scores, and their mean and standard deviation over all runs (no deviation of a single run)."""
    titles = [title for title in SCORES if all(title in run.scores() for run in runs)]
    values = {title: [run.scores()[title]["value"] for run in runs] for title in titles}
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
    """A row a name: a single run's scores with their 95 % intervals, several runs' mean and standard deviation.

    The last row is what always giving the commonest answer scores.
    """
    titles = [title for title in SCORES if any(title in run.scores() for run in runs)]
    rows = [["", "runs", "faces", *titles, "parameters", "minutes"], ["---"] * (len(titles) + 5)]
    for name, of_name in groupby(runs, key=lambda run: run.name):
        rows.append(_row(name, list(of_name), titles))
    if spread:
        rows.append(_row("mean ± standard deviation", runs, titles))
    baselines = [run.baseline_scores() for run in (runs if spread else runs[:1])]  # else all are of the same pictures
    cells = (_cell(title, [scores[title] for scores in baselines if title in scores]) for title in titles)
    rows.append(["always the same answer", "", "", *cells, "", ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(name: str, runs: Sequence[Run], titles: Sequence[str]) -> list[str]:
    return [
        name,
        str(len(runs)),
        f"{sum(run.metrics['pictures'] for run in runs) // len(runs):,}",
        *(_cell(title, [run.scores()[title] for run in runs if title in run.scores()]) for title in titles),
        f"{mean(run.record['parameters'] for run in runs) / 1e6:.2f} M",
        f"{mean(run.record['seconds'] for run in runs) / 60:.1f}",
    ]


def _cell(title: str, scores: Sequence[dict[str, Any]]) -> str:
    decimals = SCORES[title][2]
    values = [score["value"] for score in scores]
    if len(values) > 1:
        return f"{mean(values):.{decimals}f} ± {stdev(values):.{decimals}f}"
    return with_interval(scores[0] if scores else None, 1, decimals)


def draw_runs(runs: Sequence[Run]) -> Figure:
    """A panel a score: a point a run with its 95 % interval, in a row for each name, and the mean of them all."""
    titles = [title for title in DRAWN if any(title in run.scores() for run in runs)]
    names = list(dict.fromkeys(run.name for run in runs))
    figure = Figure(figsize=(3.6 * len(titles) + 1.5, 0.4 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for ax, title in zip(axes, titles, strict=True):
        for row, name in enumerate(names):
            scores = [run.scores()[title] for run in runs if run.name == name and title in run.scores()]
            places = row + 0.5 * ((np.arange(len(scores)) + 0.5) / len(scores) - 0.5)
            points(ax, places, scores, BLUE, None, horizontal=True)
        ax.axvline(mean(run.scores()[title]["value"] for run in runs if title in run.scores()), color=GREY, ls=":")
        ax.set(xlabel=title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


def write_trials(study: Study, argv: Sequence[str], folder: Path, metric: str) -> str:
    """Write trials.md, trials.json and trials.png into `folder`; the table, with the best command below it."""
    text = format_trials(study, metric)
    if finished(study):
        best = " ".join(f"--{name} {shlex.quote(_text(value))}" for name, value in study.best_params.items())
        text += f"\n\nThe best one, trained in full: python -m trainer.train {shlex.join(argv)} {best} --output_dir {folder}/best"
        save(draw_trials(study, metric), folder / "trials.png")
    (folder / "trials.md").write_text(text + "\n", encoding="utf-8")
    trials = [
        {"number": t.number, "state": t.state.name.lower(), metric: t.value, "arguments": t.params}
        | {"evaluations": {str(step): value for step, value in t.intermediate_values.items()}}
        for t in study.trials
    ]
    (folder / "trials.json").write_text(json.dumps(trials, indent=1) + "\n", encoding="utf-8")
    return text


def finished(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def format_trials(study: Study, metric: str) -> str:
    """Markdown: finished trials from best to worst, then the pruned and failed ones with their last evaluation."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    sign = 1 if study.direction.name == "MINIMIZE" else -1
    order = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    trials = sorted(study.trials, key=lambda t: (order.index(t.state), sign * (_last(t) or 0), t.number))
    rows = [["trial", "state", metric, *names], ["---"] * (len(names) + 3)]
    for trial in trials:
        values = [_text(trial.params.get(name, "")) for name in names]
        rows.append([str(trial.number), trial.state.name.lower(), _text(_last(trial)), *values])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw_trials(study: Study, metric: str) -> Figure:
    """The metric by trial with the best so far, and by each argument."""
    done = finished(study)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED and trial.intermediate_values]
    names = list(dict.fromkeys(name for trial in done for name in trial.params))
    figure = Figure(figsize=(3 * (len(names) + 1), 3), layout="constrained")
    first, *others = figure.subplots(1, len(names) + 1, sharey=True, squeeze=False)[0]
    better = min if study.direction.name == "MINIMIZE" else max
    best_so_far = [better(trial.value for trial in done[: index + 1]) for index in range(len(done))]
    first.step([trial.number for trial in done], best_so_far, where="post", color=GREY, label="best so far")
    for ax, place in [
        (first, lambda trial: trial.number),
        *((ax, _by(n)) for ax, n in zip(others, names, strict=True)),
    ]:
        for trials, style in ((done, {"marker": "o", "c": BLUE}), (pruned, {"marker": "x", "c": ORANGE})):
            ax.scatter([place(trial) for trial in trials], [_last(trial) for trial in trials], s=16, **style)
        ax.spines[["top", "right"]].set_visible(False)
    for ax, name in zip(others, names, strict=True):
        ax.set(xlabel=name)
        if any(getattr(trial.distributions[name], "log", False) for trial in done):
            ax.set_xscale("log")
    first.set(xlabel="trial (x: pruned)", ylabel=metric)
    first.legend(frameon=False, fontsize=8)
    return figure


def _by(name: str):
    return lambda trial: value if isinstance(value := trial.params[name], (int, float)) else str(value)


def _last(trial: FrozenTrial) -> float | None:
    return trial.value if trial.value is not None else next(reversed(trial.intermediate_values.values()), None)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
