"""A score as people read it."""

from typing import Any

from trainer.evaluation.predictions import Score


def with_interval(score: dict[str, Any] | None, scale: int, decimals: int, sign: str = "") -> str:
    """`4.81 [4.65, 4.98]`; the value alone where there are too few faces for an interval, a dash without any.

    `scale`: 100 for percent. `sign`: "+" for changes.
    """
    if not score or score["value"] is None:
        return "-"
    value, low, high = (
        "" if score[end] is None else f"{scale * score[end]:{sign}.{decimals}f}" for end in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if low else value


LEAST_SHARE = 0.9  # of the faces that the best placed set of ranges is scored on


def telling_range_sets(age_ranges: dict[str, Any]) -> dict[str, Any]:
    """The entries of `age_ranges` in `metrics.json` that are of nearly all faces, and of more than one labelled range.

    A label such as "20-29" lies in no single range of some sets. Scored on the faces that are left, such a set would look
    easier or harder than it is; where they are all of one range, always answering that one is always right.
    """
    most = max((scores["accuracy"]["n"] for scores in age_ranges.values()), default=0)
    return {
        name: scores
        for name, scores in age_ranges.items()
        if scores["accuracy"]["n"] >= LEAST_SHARE * most and sum(row["n"] > 0 for row in scores["classes"]) > 1
    }


Unit = tuple[int, int]  # factor, decimals
NUMBER: Unit = (1, 2)
PERCENT: Unit = (100, 1)
NOTHING: Score = {"value": None, "low": None, "high": None, "n": 0}


def format_metrics(metrics: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """Headline scores with their 95 % intervals, classes, calibration, groups and what else was measured, outside sets too.

    `calibration`: what was fitted on validation, of the run's record, if there is one.
    """
    blocks = [_heading(metrics)]
    if "age" in metrics:
        age = metrics["age"]
        blocks.append(
            [
                f"Age ({age['estimate']} of the year distribution)",
                _line("mean absolute error, years", age["mae"]),
                _line(f"  always {age['baseline']['answer']:g} ({age['baseline']['source']})", age["baseline"]["mae"]),
                _line("median absolute error, years", age["median_absolute_error"]),
                _line("bias, years", age["bias"]),
                _line("within 5 years, %", age["cs5"], PERCENT),
            ]
        )
    for name, scores in metrics["age_ranges"].items():
        blocks.append([f"Age ranges: {name}", *_class_lines(scores, scores["within_one"])])
    if "gender" in metrics:
        gender = metrics["gender"]
        lines = ["Gender", *_class_lines(gender)]
        if "auc" in gender:
            lines.append(_line("AUC", gender["auc"]))
        lines.append(f'  answering only the surest ("unsure" below {gender["abstention"]["threshold"]:.3f}):')
        lines.append(_line("  answered at that threshold, %", gender["abstention"]["answered"], PERCENT))
        target = f" (target {100 * calibration['gender_target_accuracy']:.0f})" if calibration else ""
        lines.append(_line(f"  right among those, %{target}", gender["abstention"]["accuracy"], PERCENT))
        for row in gender["abstention"]["curve"]:
            lines.append(_line(f"  right among the surest {row['answered']:.0%}, %", row["accuracy"], PERCENT))
        blocks.append(lines)
    blocks.append(["Calibration", *_calibration_lines(metrics["calibration"])])
    if calibration:
        blocks.append(_fitted_lines(calibration))
    blocks.append(_group_lines(metrics))
    if "crop_sweep" in metrics:
        blocks.append(_sweep_lines(metrics["crop_sweep"]))
    blocks += [_outside_lines(name, outside) for name, outside in metrics.get("outside", {}).items()]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _heading(metrics: dict[str, Any]) -> list[str]:
    lines = [
        f"{metrics['model']} on {metrics['dataset']}, {metrics['split']} split: {metrics['pictures']} pictures "
        f"({metrics['framing']})",
        f"weights {metrics['weights_sha256'][:12]}; 95 % intervals in brackets, from "
        f"{metrics['bootstrap']['draws']} resamples; n: faces",
    ]
    network = metrics["network"]
    lines.append(
        f"{network['megabytes']} MB; one face takes the network {network['milliseconds_on_one_core']} ms on one core "
        f"({network['processor']})"
    )
    if metrics["pictures_without_detected_face"] is not None:
        lines.append(f"no face detected in {metrics['pictures_without_detected_face']} pictures, which are not scored")
    return lines


def _class_lines(scores: dict[str, Any], within_one: Score | None = None) -> list[str]:
    lines = [
        _line("accuracy, %", scores["accuracy"], PERCENT),
        _line(f"  always {scores['baseline']['answer']}", scores["baseline"]["accuracy"], PERCENT),
    ]
    if within_one:
        lines.append(_line("right or the range beside it, %", within_one, PERCENT))
    lines.append(_line("macro F1", scores["macro_f1"]))
    lines.append(_line("macro precision", scores["macro_precision"]))
    lines.append(_line("macro recall", scores["macro_recall"]))
    lines.append(f"  {'class':10}{'n':>6}{'precision':>11}{'recall':>8}{'F1':>7}{'AUC':>7}")
    for row in scores["classes"]:
        values = [row.get(name, {"value": None})["value"] for name in ("precision", "recall", "f1", "auc")]
        shown = ["-" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"  {row['name']:10}{row['n']:>6}{shown[0]:>11}{shown[1]:>8}{shown[2]:>7}{shown[3]:>7}")
    return lines


def _calibration_lines(calibration: dict[str, Any]) -> list[str]:
    lines = []
    for name, title in (("gender_ece", "gender"), ("age_range_ece", "age ranges")):
        if name in calibration:
            lines.append(_line(f"expected calibration error, {title}, %", calibration[name], PERCENT))
    if "age_interval" in calibration:
        interval = calibration["age_interval"]
        lines.append(
            _line(
                f"age interval holds the age, % (target {100 * interval['target']:.0f})",
                interval["coverage"],
                PERCENT,
            )
        )
        lines.append(_line("  its mean width, years", interval["width_years"]))
        for key, rows in (("age_range", interval["by_age"]), ("race", interval["by_race"])):
            for row in rows:
                lines.append(
                    _line(f"  {row[key]}, %", row["coverage"], PERCENT) + f"   width {row['width_years']['value']:.1f}"
                )
    return lines


def _fitted_lines(fitted: dict[str, Any]) -> list[str]:
    return [
        f"Fitted on {fitted['faces']} validation faces",
        f"  {'temperature of the age head':46}{fitted['age_temperature']:.3f}",
        f"  {'temperature of the gender head':46}{fitted['gender_temperature']:.3f}",
        f"  {'an age is the':46}{fitted['age_estimate']} of the years",
        f"  {'mass inside an age interval, %':46}{100 * fitted['interval_mass']:.1f}",
        f"  {'given genders that should be right, %':46}{100 * fitted['gender_target_accuracy']:.0f}"
        + ("" if fitted.get("gender_target_reached", True) else " (not reached)"),
    ]


def _group_lines(metrics: dict[str, Any]) -> list[str]:
    lines = ["Groups", f"  {'':34}{'n':>6}   {'age MAE':22}gender right, %"]
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


def _sweep_lines(sweep: list[dict[str, Any]]) -> list[str]:
    lines = ["Framing of the crop", f"  {'margin':>8}{'rotation':>10}  {'age MAE':22}gender right, %"]
    for row in sweep:
        age, gender = row.get("age_mae", NOTHING), row.get("gender_accuracy", NOTHING)
        framing = f"{100 * row['margin']:>+7.0f}%{row['rotation_degrees']:>+9.0f}°"
        lines.append(f"  {framing}  {_text(age):22}{_text(gender, PERCENT)}")
    return lines


def _outside_lines(name: str, metrics: dict[str, Any]) -> list[str]:
    """The main figures of another set, in the range sets that hold nearly all of its faces."""
    lines = [
        f"Outside set: {name} ({metrics['split']} of {metrics['dataset']}: {metrics['pictures']} pictures, "
        f"{metrics['framing']})"
    ]
    if "age" in metrics:
        lines.append(_line("mean absolute error, years", metrics["age"]["mae"]))
        always = metrics["age"]["baseline"]
        lines.append(_line(f"  always {always['answer']:g} ({always['source']})", always["mae"]))
    for title, scores in telling_range_sets(metrics["age_ranges"]).items():
        lines.append(_line(f"{title}, %", scores["accuracy"], PERCENT))
        always = scores["baseline"]
        lines.append(_line(f"  always {always['answer']}", always["accuracy"], PERCENT))
        lines.append(_line("  right or the range beside it, %", scores["within_one"], PERCENT))
    if "gender" in metrics:
        always, abstention = metrics["gender"]["baseline"], metrics["gender"]["abstention"]
        lines.append(_line("gender, %", metrics["gender"]["accuracy"], PERCENT))
        lines.append(_line(f"  always {always['answer']}", always["accuracy"], PERCENT))
        lines.append(_line("  answered at the stored threshold, %", abstention["answered"], PERCENT))
        lines.append(_line("  right among those, %", abstention["accuracy"], PERCENT))
    return lines


def _line(title: str, score: Score, unit: Unit = NUMBER) -> str:
    return f"  {title:46}{_text(score, unit):24} n {score['n']}"


def _text(score: Score, unit: Unit = NUMBER) -> str:
    text = with_interval(score, *unit)
    return text if score["value"] is None or score["low"] is not None else f"{text} (too few)"
