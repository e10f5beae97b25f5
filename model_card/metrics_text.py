"""Render metrics.json, what an evaluation measured, as text: one score for a card or a table, and the whole as a report."""

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict


class Score(TypedDict):
    """A measured value with its 95 % interval, as metrics.json holds it.

    `value` is None where no face defines it; `low` and `high` are None where too few faces do; `n` counts the faces.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


Unit = tuple[int, int]  # factor, decimals
NUMBER: Unit = (1, 2)
PERCENT: Unit = (100, 1)
NO_SCORE: Score = {"value": None, "low": None, "high": None, "n": 0}
COMPARABLE_FRACTION = 0.9  # of the faces that can be scored in the range set that fits the labels best
TITLE_WIDTH = 54


def with_interval(score: Score | None, scale: int, decimals: int, sign: str = "") -> str:
    """`4.81 [4.65, 4.98]`; the value alone where there are too few faces for an interval; a dash without a value.

    Args:
        scale: factor; 100 for percent.
        sign: "+" shows the sign of a change.
    """
    if not score or score["value"] is None:
        return "-"
    value = f"{scale * score['value']:{sign}.{decimals}f}"
    if score["low"] is None or score["high"] is None:
        return value
    return f"{value} [{scale * score['low']:{sign}.{decimals}f}, {scale * score['high']:{sign}.{decimals}f}]"


def calibrated_figure(value: float | str | None) -> str:
    """A figure of the calibration; a dash where the faces give none."""
    return "-" if value is None else value if isinstance(value, str) else f"{value:.3f}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, every row as long as the header."""
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def comparable_range_sets(age_ranges: dict[str, Any]) -> dict[str, Any]:
    """The range sets in which nearly all faces can be scored, and whose faces lie in more than one range.

    A label such as "20-29" lies in no single range of some sets. Scored on the remaining faces, such a set would look
    easier or harder than it is. If all faces lie in one range, the majority class is always correct.

    Args:
        age_ranges: range sets by name, as in `metrics.json`.
    """
    most = max((scores["accuracy"]["n"] for scores in age_ranges.values()), default=0)
    return {
        name: scores
        for name, scores in age_ranges.items()
        if scores["accuracy"]["n"] >= COMPARABLE_FRACTION * most and sum(row["n"] > 0 for row in scores["classes"]) > 1
    }


def format_metrics(metrics: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """The report that `scripts.evaluate_model` prints: headline scores, classes, calibration, groups, external test sets.

    Args:
        metrics: the content of `metrics.json`.
        calibration: what was fitted on the validation split, from the run's record, if there is one.
    """
    blocks = [_heading(metrics)]
    if "age" in metrics:
        blocks.append(_age_lines(metrics["age"]))
    for name, scores in metrics["age_ranges"].items():
        blocks.append([f"Age ranges: {name}", *_class_lines(scores)])
    if "gender" in metrics:
        blocks.append(_gender_lines(metrics["gender"], calibration))
    blocks.append(["Calibration", *_calibration_lines(metrics["calibration"])])
    if calibration:
        blocks.append(_fitted_lines(calibration))
    blocks.append(_group_lines(metrics))
    if "crop_sweep" in metrics:
        blocks.append(_crop_sweep_lines(metrics["crop_sweep"]))
    blocks += [_external_lines(name, external) for name, external in metrics.get("outside", {}).items()]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _heading(metrics: dict[str, Any]) -> list[str]:
    network = metrics["network"]
    lines = [
        f"{metrics['model']} on {metrics['dataset']}, {metrics['split']} split: {metrics['pictures']} pictures "
        f"({metrics['framing']})",
        f"weights {metrics['weights_sha256'][:12]}; 95 % intervals in brackets, from "
        f"{metrics['bootstrap']['draws']} bootstrap resamples; n: faces",
        f"{network['megabytes']} MB; the network takes {network['milliseconds_on_one_core']} ms per face on one core "
        f"({network['processor']})",
    ]
    if metrics["pictures_without_detected_face"] is not None:
        lines.append(f"no face detected in {metrics['pictures_without_detected_face']} pictures, which are not scored")
    return lines


def _age_lines(age: dict[str, Any]) -> list[str]:
    return [
        f"Age ({age['estimate']} of the distribution over years)",
        _line("mean absolute error, years", age["mae"]),
        _median_baseline_line(age["baseline"]),
        _line("median absolute error, years", age["median_absolute_error"]),
        _line("bias, years", age["bias"]),
        _line("error of at most 5 years, %", age["cs5"], PERCENT),
    ]


def _median_baseline_line(baseline: dict[str, Any]) -> str:
    return _line(f"  median baseline: {baseline['answer']:g}, {baseline['source']}", baseline["mae"])


def _majority_baseline_line(baseline: dict[str, Any]) -> str:
    return _line(f"  majority-class baseline: {baseline['answer']}", baseline["accuracy"], PERCENT)


def _class_lines(scores: dict[str, Any]) -> list[str]:
    lines = [_line("accuracy, %", scores["accuracy"], PERCENT), _majority_baseline_line(scores["baseline"])]
    if "within_one" in scores:
        lines.append(_line("1-off accuracy, %", scores["within_one"], PERCENT))
    lines.append(_line("macro F1", scores["macro_f1"]))
    lines.append(_line("macro precision", scores["macro_precision"]))
    lines.append(_line("macro recall", scores["macro_recall"]))
    lines.append(f"  {'class':10}{'n':>6}{'precision':>11}{'recall':>8}{'F1':>7}{'AUC':>7}")
    for row in scores["classes"]:
        values = [row.get(name, NO_SCORE)["value"] for name in ("precision", "recall", "f1", "auc")]
        shown = ["-" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"  {row['name']:10}{row['n']:>6}{shown[0]:>11}{shown[1]:>8}{shown[2]:>7}{shown[3]:>7}")
    return lines


def _gender_lines(gender: dict[str, Any], calibration: dict[str, Any] | None) -> list[str]:
    abstention = gender["abstention"]
    lines = ["Gender", *_class_lines(gender)]
    if "auc" in gender:
        lines.append(_line("AUC", gender["auc"]))
    lines.append(f'  abstention ("unsure" below a confidence of {abstention["threshold"]:.3f}):')
    lines.append(_line("  answered at that threshold, %", abstention["answered"], PERCENT))
    target = f" (target {100 * calibration['gender_target_accuracy']:.0f})" if calibration else ""
    lines.append(_line(f"  accuracy of those answers, %{target}", abstention["accuracy"], PERCENT))
    for row in abstention["curve"]:
        lines.append(_line(f"  accuracy of the most confident {row['answered']:.0%}, %", row["accuracy"], PERCENT))
    return lines


def _calibration_lines(calibration: dict[str, Any]) -> list[str]:
    lines = []
    for name, title in (("gender_ece", "gender"), ("age_range_ece", "age ranges")):
        if name in calibration:
            lines.append(_line(f"expected calibration error, {title}, %", calibration[name], PERCENT))
    if "age_interval" in calibration:
        interval = calibration["age_interval"]
        title = f"age interval contains the labelled age, % (target {100 * interval['target']:.0f})"
        lines.append(_line(title, interval["coverage"], PERCENT))
        lines.append(_line("  mean width, years", interval["width_years"]))
        for key, rows in (("age_range", interval["by_age"]), ("race", interval["by_race"])):
            for row in rows:
                coverage = _line(f"  {row[key]}, %", row["coverage"], PERCENT)
                lines.append(f"{coverage}   width {row['width_years']['value']:.1f}")
    return lines


def _fitted_lines(fitted: dict[str, Any]) -> list[str]:
    target = f"{100 * fitted['gender_target_accuracy']:.0f}"
    rows = {
        "temperature of the age head": f"{fitted['age_temperature']:.3f}",
        "temperature of the gender head": f"{fitted['gender_temperature']:.3f}",
        "age estimate": f"{fitted['age_estimate']} of the distribution over years",
        "probability mass inside an age interval, %": f"{100 * fitted['interval_mass']:.1f}",
        "target accuracy of the genders given, %": target
        + ("" if fitted.get("gender_target_reached", True) else " (not reached)"),
    }
    lines = [
        f"Fitted on {fitted['faces']} validation faces",
        *(f"  {name:{TITLE_WIDTH}}{value}" for name, value in rows.items()),
    ]
    if "evidence" in fitted:  # records of earlier versions have none
        source = fitted["prior"] or "an untrained model"
        lines.append(
            f"  {'prior: ' + source:{TITLE_WIDTH}}{'prior':>8}{'alone':>8}{'weight':>8}{'faces':>8}{'needs':>8}"
        )
        for name, one in fitted["evidence"].items():
            prior, alone = calibrated_figure(one["prior"]), calibrated_figure(one["alone"])
            numbers = f"{one['weight']:>7.0%} {one['faces']:>8}{one['faces_needed']:>8}"
            lines.append(f"  {'  ' + name:{TITLE_WIDTH}}{prior:>8}{alone:>8}{numbers}")
    return lines


def _group_lines(metrics: dict[str, Any]) -> list[str]:
    lines = ["Groups", f"  {'':34}{'n':>6}   {'age MAE':22}gender accuracy, %"]
    for group in metrics["groups"]:
        name = ", ".join(group[factor] for factor in group["by"].split(" x "))
        lines.append(
            f"  {name:34}{group['n']:>6}   {_text(group['age_mae']):22}{_text(group['gender_accuracy'], PERCENT)}"
        )
    worst = metrics["worst_group"]
    for metric, scale, unit in (("age_mae", 1, "years"), ("gender_accuracy", 100, "points")):
        if metric in worst:
            gap, factors = worst[metric], worst["by"].split(" x ")
            low, high = (", ".join(gap[end][factor] for factor in factors) for end in ("worst", "best"))
            lines.append(
                f"  {metric}: {_text(gap['gap'], (scale, 2))} {unit} between {low} (worst) and {high} (best), "
                f"of {gap['cells']} cells with {worst['minimum_support']} faces or more"
            )
    return lines


def framing_text(row: dict[str, Any]) -> str:
    """What a row of the crop sweep changes. A row of an earlier version has margin and rotation alone."""
    parts = [f"{abs(row['margin']):.0%} too {'wide' if row['margin'] > 0 else 'narrow'}"] if row["margin"] else []
    if row["rotation_degrees"]:
        parts.append(f"turned by {row['rotation_degrees']:.0f} degrees")
    if row.get("pixels"):
        parts.append(f"enlarged from {row['pixels']} pixels")
    if row.get("blur"):
        parts.append(f"blurred by {row['blur']:.1%} of its side")
    return ", ".join(parts) or "as it is"


def _crop_sweep_lines(sweep: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'Framing of the crop':30}{'age MAE':22}{'gender accuracy, %':22}{'age interval, %':22}width"]
    for row in sweep:
        age, gender = row.get("age_mae", NO_SCORE), row.get("gender_accuracy", NO_SCORE)
        line = f"  {framing_text(row):28}{_text(age):22}{_text(gender, PERCENT):22}"
        if interval := row.get("age_interval"):
            line += f"{_text(interval['coverage'], PERCENT):22}{interval['width_years']['value']:.1f}"
        lines.append(line.rstrip())
    return lines


def _external_lines(name: str, metrics: dict[str, Any]) -> list[str]:
    """The main scores on an external test set, in comparable range sets."""
    lines = [
        f"External test set: {name} ({metrics['split']} of {metrics['dataset']}: {metrics['pictures']} pictures, "
        f"{metrics['framing']})"
    ]
    if "age" in metrics:
        lines.append(_line("mean absolute error, years", metrics["age"]["mae"]))
        lines.append(_median_baseline_line(metrics["age"]["baseline"]))
    for title, scores in comparable_range_sets(metrics["age_ranges"]).items():
        lines.append(_line(f"{title} accuracy, %", scores["accuracy"], PERCENT))
        lines.append(_majority_baseline_line(scores["baseline"]))
        lines.append(_line("  1-off accuracy, %", scores["within_one"], PERCENT))
    if "gender" in metrics:
        abstention = metrics["gender"]["abstention"]
        lines.append(_line("gender accuracy, %", metrics["gender"]["accuracy"], PERCENT))
        lines.append(_majority_baseline_line(metrics["gender"]["baseline"]))
        lines.append(_line("  answered at the stored threshold, %", abstention["answered"], PERCENT))
        lines.append(_line("  accuracy of those answers, %", abstention["accuracy"], PERCENT))
    return lines


def _line(title: str, score: Score, unit: Unit = NUMBER) -> str:
    return f"  {title:{TITLE_WIDTH}}{_text(score, unit):24} n {score['n']}"


def _text(score: Score, unit: Unit = NUMBER) -> str:
    text = with_interval(score, *unit)
    return text if score["value"] is None or score["low"] is not None else f"{text} (too few)"
