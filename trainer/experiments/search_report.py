"""The trials of a search: a table, a plot, and the command that trains the best one."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from model_card.plotting import BLUE, GREY, ORANGE, save


def write_trials(study: Study, argv: Sequence[str], folder: Path, metric: str) -> str:
    """Write trials.md, trials.json and trials.png into `folder`; the table, with the best command below it."""
    text = format_trials(study, metric)
    if finished(study):
        best = " ".join(f"--{name} {shlex.quote(_text(value))}" for name, value in study.best_params.items())
        text += f"\n\nThe best one, trained in full: python -m trainer.train {shlex.join(argv)} {best} --output_dir {folder}/best"
        save(draw(study, metric), folder / "trials.png")
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


def draw(study: Study, metric: str) -> Figure:
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
