"""What a search writes: its trials as a Markdown table, as JSON and as a plot.

Apart from `trainer.experiments.reports`, because Optuna is installed only by those who search.
"""

import json
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from optuna import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_slice

from model_card.metrics_text import markdown_table
from model_card.output_files import write_atomically
from trainer.plotting import save
from trainer.recipe import as_flags


def write_trials(study: Study, argv: Sequence[str], folder: Path, metric: str) -> str:
    """Write trials.md, trials.json and, as soon as a trial is finished, trials.png into `folder`.

    Args:
        argv: of trainer.train, that the trials share.

    Returns:
        The text of trials.md: the table, and the command that trains the best trial in full.
    """
    text = format_trials(study, metric)
    if study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        best = [*argv, *as_flags({**study.best_params, "output_dir": f"{folder}/best"})]
        text += f"\n\nTrain the best one in full: python -m trainer.train {shlex.join(best)}"
        save_trial_plot(study, metric, folder / "trials.png")
    write_atomically(folder / "trials.md", text + "\n")
    trials = [
        {"number": t.number, "state": t.state.name.lower(), metric: t.value, "arguments": t.params}
        | {"evaluations": {str(step): value for step, value in t.intermediate_values.items()}}
        for t in study.trials
    ]
    write_atomically(folder / "trials.json", json.dumps(trials, indent=1) + "\n")
    return text


def format_trials(study: Study, metric: str) -> str:
    """Markdown: finished trials from best to worst, then pruned and failed ones with their last evaluation."""
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.params))
    sign = 1 if study.direction.name == "MINIMIZE" else -1
    order = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    trials = sorted(study.trials, key=lambda t: (order.index(t.state), sign * (_last(t) or 0), t.number))
    rows = [
        [str(t.number), t.state.name.lower(), _text(_last(t)), *(_text(t.params.get(name)) for name in names)]
        for t in trials
    ]
    return markdown_table(["trial", "state", metric, *names], rows)


def _last(trial: FrozenTrial) -> float | None:
    return trial.value if trial.value is not None else next(reversed(trial.intermediate_values.values()), None)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def save_trial_plot(study: Study, metric: str, path: Path) -> None:
    """The metric of finished trials by each argument; the colour shows the number of the trial."""
    with warnings.catch_warnings(action="ignore"):  # optuna calls it experimental; an argument may have a single value
        plot_slice(study, target_name=metric)
    figure = pyplot.gcf()
    save(figure, path)
    pyplot.close(figure)
