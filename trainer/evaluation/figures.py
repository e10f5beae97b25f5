"""The card's figures, drawn from an evaluation and a training log. None shows a face."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from model.decoding_age_gender import range_probabilities
from model.losses_age_gender import IGNORE_INDEX
from trainer.evaluation.predictions import Evaluation
from trainer.metrics import range_indices
from trainer.plotting import BLUE, GREY, ORANGE, points, save_figures


def draw_figures(
    evaluation: Evaluation, report: dict[str, Any], log_history: Sequence[dict[str, Any]], folder: Path
) -> list[Path]:
    """Write each figure for which there is data into `folder` as PNG, and return their paths.

    Args:
        report: the content of `metrics.json` for `evaluation`.
        log_history: the Trainer's; empty where the model has no record.
    """
    figures: dict[str, Figure] = {}
    heads = list(_heads(evaluation))
    if heads:
        figures["confusion"] = draw_confusion(heads)
        figures["roc"] = draw_roc(heads)
        figures["reliability"] = draw_reliability(heads)
    if "age" in report:
        figures["predicted_age"] = draw_predicted_age(evaluation)
        figures["age_error"] = draw_age_error(report["age"]["by_age"])
    if "gender" in report:
        figures["risk_coverage"] = draw_risk_coverage(report["gender"]["abstention"])
    if report["groups"]:
        figures["groups"] = draw_groups(report["groups"])
    if any("eval_loss" in record for record in log_history):
        figures["learning_curves"] = draw_learning_curves(log_history)
    return save_figures(figures, folder)


class Head(NamedTuple):
    """The classes of one head, (N,) labels and (N, classes) probabilities of the faces that are labelled."""

    title: str
    names: Sequence[str]
    labels: np.ndarray
    probs: np.ndarray


def _heads(evaluation: Evaluation) -> Iterator[Head]:
    """Each head that has labelled faces."""
    predictions, config = evaluation.predictions, evaluation.config
    range_probs = range_probabilities(predictions.age_probs, config.age_ranges)
    ranges = range_indices(predictions.age_labels, config.age_ranges)
    for title, names, labels, probs in (
        ("Age range", config.age_range_labels, ranges, range_probs),
        ("Gender", config.gender_names, predictions.gender_labels, predictions.gender_probs),
    ):
        known = labels != IGNORE_INDEX
        if known.any():
            yield Head(title, names, labels[known], probs[known])


def draw_confusion(heads: Sequence[Head]) -> Figure:
    """Percentage of each labelled class (row) that was predicted as each class (column)."""
    figure, axes = _panels(len(heads))
    for ax, (title, names, labels, probs) in zip(axes, heads, strict=True):
        counts = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(counts, (labels, probs.argmax(axis=1)), 1)
        fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(fractions.shape):
            if counts[row, column]:
                color = "white" if fractions[row, column] > 0.5 else "black"
                ax.text(
                    column, row, f"{100 * fractions[row, column]:.0f}", ha="center", va="center", color=color, size=8
                )
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        ax.set_yticks(range(len(names)), [f"{name} ({n})" for name, n in zip(names, counts.sum(axis=1), strict=True)])
        ax.set(title=f"{title}: % of each label", xlabel="predicted", ylabel="labelled (faces)")
    return figure


def draw_roc(heads: Sequence[Head]) -> Figure:
    """One ROC curve per class, against the rest."""
    figure, axes = _panels(len(heads))
    for ax, (title, names, labels, probs) in zip(axes, heads, strict=True):
        for index, name in enumerate(names):
            # the curve of one of two classes mirrors the other's
            if not 0 < (labels == index).sum() < len(labels) or (len(names) == 2 and index == 0):
                continue
            false_positives, true_positives, _ = roc_curve(labels == index, probs[:, index])
            color = colormaps["viridis"](0.9 * index / (len(names) - 1))  # adjacent ranges in similar colours
            ax.plot(false_positives, true_positives, label=name, color=color, linewidth=1.3)
        ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        ax.set(title=f"{title}: one-vs-rest ROC", xlabel="false positive rate", ylabel="true positive rate")
        _legend(ax)
    return figure


def draw_reliability(heads: Sequence[Head]) -> Figure:
    """Reliability diagram: accuracy of the predictions by their confidence."""
    figure, axes = _panels(len(heads))
    for ax, (title, _, labels, probs) in zip(axes, heads, strict=True):
        correct = probs.argmax(axis=1) == labels
        observed, stated = calibration_curve(correct, probs.max(axis=1).clip(0, 1), n_bins=10)
        ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect calibration")
        ax.plot(stated, observed, color=BLUE, marker="o", markersize=4, label="measured")
        ax.set(title=f"{title}: reliability", xlabel="confidence", ylabel="accuracy")
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
        _legend(ax)
    return figure


def draw_predicted_age(evaluation: Evaluation) -> Figure:
    """Number of faces per labelled and estimated age, in cells of two years."""
    figure, (ax,) = _panels(1)
    edges = np.arange(0, evaluation.config.max_age + 3, 2)
    known = evaluation.has_age
    counts, _, _ = np.histogram2d(evaluation.ages[known], evaluation.age_years[known], bins=[edges, edges])
    shown = ax.pcolormesh(edges, edges, np.ma.masked_equal(counts.T, 0), cmap="viridis_r")
    ax.plot(edges, edges, color=ORANGE, linewidth=1)
    figure.colorbar(shown, label="faces")
    ax.set(title="Estimated and labelled age", xlabel="labelled age (years)", ylabel="estimated age (years)")
    return figure


def draw_age_error(by_age: Sequence[dict[str, Any]]) -> Figure:
    """Mean absolute error and bias by labelled age, with 95 % intervals."""
    figure, (ax,) = _panels(1)
    positions = np.arange(len(by_age))
    points(ax, positions - 0.1, [row["mae"] for row in by_age], BLUE, "mean absolute error")
    points(ax, positions + 0.1, [row["bias"] for row in by_age], ORANGE, "bias (above 0: estimated too old)")
    ax.axhline(0, color=GREY, linewidth=1)
    ax.set_xticks(positions, [f"{row['age_range']}\n{row['mae']['n']}" for row in by_age])
    ax.set(title="Age error", xlabel="labelled age, faces", ylabel="years")
    _legend(ax)
    return figure


def draw_risk_coverage(abstention: dict[str, Any]) -> Figure:
    """Risk-coverage curve: gender accuracy when the model abstains on the least confident faces."""
    figure, (ax,) = _panels(1)
    rows = [row for row in abstention["curve"] if row["accuracy"]["value"] is not None]
    points(ax, np.array([100 * row["answered"] for row in rows]), [row["accuracy"] for row in rows], BLUE, None, 100)
    answered, accuracy = abstention["answered"]["value"], abstention["accuracy"]["value"]
    if accuracy is not None:
        label = f"stored threshold, {abstention['threshold']:.2f}"
        ax.plot(100 * answered, 100 * accuracy, color=ORANGE, marker="D", linestyle="", label=label)
        _legend(ax)
    ax.set(title="Gender: abstention", xlabel="coverage (% of faces answered)", ylabel="accuracy of the answers (%)")
    return figure


def draw_groups(groups: Sequence[dict[str, Any]]) -> Figure:
    """Age error and gender accuracy by race and gender (by gender where races are unknown), with 95 % intervals."""
    by = "race x gender" if any(group["by"] == "race x gender" for group in groups) else groups[0]["by"]
    rows = [group for group in groups if group["by"] == by][::-1]
    names = [", ".join(row[factor] for factor in by.split(" x ")) + f" ({row['n']})" for row in rows]
    figure, axes = _panels(2)
    for ax, metric, scale, label in (
        (axes[0], "age_mae", 1, "mean absolute error of age (years)"),
        (axes[1], "gender_accuracy", 100, "gender accuracy (%)"),
    ):
        shown = [(position, row[metric]) for position, row in enumerate(rows) if row[metric]["value"] is not None]
        if shown:
            positions, scores = zip(*shown, strict=True)
            points(ax, np.array(positions), scores, BLUE, None, scale, horizontal=True)
        ax.set_yticks(range(len(rows)), names)
        ax.set(xlabel=label, ylim=(-0.6, len(rows) - 0.4))
    return figure


def draw_learning_curves(log_history: Sequence[dict[str, Any]]) -> Figure:
    """Loss and metric of each head on training faces (augmented) and on validation faces, by epoch."""
    figure, axes = _panels(4)
    for ax, title, train_key, validation_key in (
        (axes[0], "Age loss", "age_loss", "eval_age_loss"),
        (axes[1], "Gender loss", "gender_loss", "eval_gender_loss"),
        (axes[2], "Age: mean absolute error (years)", "age_mae", "eval_age_mae"),
        (axes[3], "Gender accuracy", "gender_accuracy", "eval_gender_accuracy"),
    ):
        for key, color, label in ((train_key, GREY, "training"), (validation_key, BLUE, "validation")):
            curve = [(record["epoch"], record[key]) for record in log_history if key in record and "epoch" in record]
            if curve:
                ax.plot(*zip(*curve, strict=True), color=color, label=label, marker="." if len(curve) < 40 else None)
        ax.set(title=title, xlabel="epoch")
        _legend(ax)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(5.2 * columns, 4.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8)
