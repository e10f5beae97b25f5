"""Render a model's card, README.md, from its configuration, weights, training record and metrics.

    python -m model_card.card model --repo_id user/age-gender

Every number of the card comes from those files, by the template beside this module.
"""

import argparse
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined, Template
from safetensors import safe_open

from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model_card.metrics_text import calibrated_figure, comparable_range_sets, framing_text, with_interval
from model_card.output_files import write_atomically
from model_card.requirements import CARD, COMPARISON, METRICS, WEIGHTS, card_problems, not_measured, onnx_files
from model_card.run_record import (
    all_sources,
    known_sets,
    learnt_from,
    license_problem,
    read_run_record,
    trained_on_other_splits,
)


TEMPLATE = Path(__file__).with_name("template.md")
REQUIREMENTS = Path(__file__).parents[1] / "model" / "requirements.txt"  # what the model's code needs beside torch
FIGURES = {
    "confusion": "Confusion matrices of both heads",
    "predicted_age": "Estimated and labelled age",
    "age_error": "Age error and bias by labelled age",
    "groups": "Age error and gender accuracy by race and gender",
    "roc": "ROC curves, each class against the rest",
    "reliability": "Reliability diagrams of both heads",
    "risk_coverage": "Gender accuracy by coverage",
    "learning_curves": "Loss and metric of both heads by epoch",
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation: stored, not trained


class CardError(AgeGenderError):
    """The card cannot be rendered; the message lists everything that is missing or wrong."""


def render_card(folder: Path, repo_id: str | None = None, revision: str | None = None) -> str:
    """The text of README.md for the model in `folder`.

    Args:
        folder: shaped like `model/`.
        repo_id: where the snippets load the model from; the folder's name unless given.
        revision: tag or commit that the snippets pin.

    Raises:
        CardError: weights, configuration, record, metrics or figures are missing, or the metrics or the ONNX files are
            not those of these weights on a test split.
    """
    folder = Path(folder)
    problems = card_problems(folder)
    run = None if problems else read_run_record(folder)
    if run and (problem := license_problem(run)):
        problems.append(problem)
    if run is None or problems:
        raise CardError(f"No card for {folder}:\n" + "\n".join(f"  - {problem}" for problem in problems))
    metrics = {"outside": {}} | _read(folder / METRICS)  # "outside": the external test sets
    config = AgeGenderConfig.from_pretrained(folder)
    sources = _sources(run, metrics)
    values = {
        "metadata": _metadata(metrics, sources).to_yaml().strip(),
        "repo_id": repo_id or folder.name,
        "revision": revision,
        "requirements": REQUIREMENTS.read_text(encoding="utf-8").split(),
        "config": config,
        "processor": _read(folder / "preprocessor_config.json"),
        "backbone": _describe_backbone(config),
        "facts": card_facts(folder, run),
        "hardware": _describe_hardware(run["hardware"]),
        "run": run,
        "started_from": run.get("started_from"),
        "trained_on_other_splits": trained_on_other_splits(run),
        "sources": all_sources(run),
        "also_trained_on": run["data"].get("also_trained_on") or [],
        "grouped": run["arguments"].get("split_by", "group") == "group",
        "metrics": metrics,
        "not_measured": not_measured(metrics),
        "external_genders": [
            (name, scores["gender"]) for name, scores in metrics["outside"].items() if "gender" in scores
        ],
        "level": f"{100 * metrics['bootstrap']['level']:.0f}",
        "figures": {name: text for name, text in FIGURES.items() if (folder / "figures" / f"{name}.png").exists()},
        "onnx": _read(folder / COMPARISON) if onnx_files(folder) else None,
    }
    return _template().render(values | sources | _extremes(metrics))


def card_facts(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """What is counted: parameters, outputs, size and number type of the weights, training time; needs no torch."""
    with safe_open(folder / WEIGHTS, framework="np") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118, it is no dict
        dtypes = {tensor.get_dtype() for tensor in slices.values()}
        sizes = {name: math.prod(tensor.get_shape()) for name, tensor in slices.items()}
    config = _read(folder / "config.json")
    earlier = (run.get("started_from") or {}).get("seconds")
    return {
        "parameters": sum(size for name, size in sizes.items() if name.rpartition(".")[2] not in STATISTICS),
        "age_outputs": config["max_age"] + 1,
        "gender_outputs": len(config["gender_names"]),
        "weights_megabytes": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f}",
        "weights_dtypes": sorted(dtypes & {"F32", "F16", "BF16"}),
        "training_time": _duration(run["seconds"]),
        "earlier_training_time": _duration(earlier) if earlier else None,
    }


def _sources(run: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """The evaluated data set, the weights' licence if one is named, the known sets whose terms they inherit, and the model on
    the Hub they began from."""
    started_from = run.get("started_from")
    inherited = [[one["model"], one["trained_on"]] for one in learnt_from(run)]
    sets = known_sets(json.dumps([run["arguments"], run["data"], metrics["dataset"], inherited]))
    start = started_from["model"] if started_from else run["arguments"].get("backbone")
    is_hub_id = start and "/" in start and not Path(start).exists() and not start.startswith("outputs/")
    return {
        "dataset_name": next(iter(known_sets(metrics["dataset"])), metrics["dataset"]),
        "license": run["arguments"].get("license"),
        "uses_utkface": "UTKFace" in sets,
        "uses_fairface": "FairFace" in sets,
        "uses_appa_real": "APPA-REAL" in sets,
        "base_model": start if is_hub_id else None,
    }


def _extremes(metrics: dict[str, Any]) -> dict[str, Any]:
    """The rows of the metrics by which the card states its limits, of those heads that were measured."""
    extremes: dict[str, Any] = {}
    if "age" in metrics:
        by_age = [row for row in metrics["age"]["by_age"] if row["mae"]["low"] is not None] or metrics["age"]["by_age"]
        by_error = sorted(by_age, key=lambda row: row["mae"]["value"])
        coverage = metrics["calibration"]["age_interval"]["by_age"]
        enough = metrics["worst_group"]["minimum_support"]
        coverage = [row for row in coverage if row["coverage"]["n"] >= enough] or coverage
        extremes["easiest"], extremes["hardest"] = by_error[0], by_error[-1]
        extremes["least_covered"] = min(coverage, key=lambda row: row["coverage"]["value"])
    if "gender" in metrics:
        extremes["young"] = next((group for group in metrics["groups"] if group["by"] == "age"), None)
    return extremes


def _metadata(metrics: dict[str, Any], sources: dict[str, Any]) -> ModelCardData:
    """The card's YAML header with its model-index: each headline score with its interval and number of faces.

    Args:
        sources: as `_sources` returns them.
    """
    headline = {}
    if "age" in metrics:
        headline["mae", "Age, mean absolute error (years)"] = metrics["age"]["mae"]
        headline["cs5", "Age within five years"] = metrics["age"]["cs5"]
    if "gender" in metrics:
        headline["accuracy", "Gender accuracy"] = metrics["gender"]["accuracy"]
        headline["roc_auc", "Gender AUC"] = metrics["gender"].get("auc")
    for name, scores in metrics["age_ranges"].items():
        headline["accuracy", f"Age range accuracy, {name}"] = scores["accuracy"]
        headline["accuracy", f"Age range 1-off accuracy, {name}"] = scores["within_one"]
    splits: dict[str, Any] = {name: metrics[name] for name in ("split_seed", "splits_sha256") if name in metrics}
    return ModelCardData(
        license=sources["license"] or "other",
        license_name="utkface-non-commercial-research" if sources["uses_utkface"] else None,
        license_link="https://susanqq.github.io/UTKFace/" if sources["uses_utkface"] else None,
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["age-estimation", "gender-classification", "face", "age-gender-classification", "custom_code"],
        datasets=["nu-delta/utkface"] * sources["uses_utkface"] + ["HuggingFaceM4/FairFace"] * sources["uses_fairface"],
        metrics=["mae", "accuracy", "f1", "roc_auc"],
        base_model=sources["base_model"],
        model_name="age-gender",
        eval_results=[
            EvalResult(
                task_type="image-classification",
                task_name="Age and gender by appearance",
                dataset_type=metrics["dataset"],  # not the Hub id: the Hub's set of these pictures has other splits
                dataset_name=sources["dataset_name"],
                dataset_split=metrics["split"],
                dataset_args=splits or None,
                metric_type=kind,
                metric_name=name,
                metric_value=score["value"],
                metric_args={"low": score["low"], "high": score["high"], "n": score["n"]},
            )
            for (kind, name), score in headline.items()
            if score
        ],
    )


def _template() -> Template:
    # StrictUndefined: a card with an empty place is worse than none
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "score": partial(with_interval, scale=1, decimals=2),
        "fraction": partial(with_interval, scale=1, decimals=3),
        "percent": partial(with_interval, scale=100, decimals=1),
        "change": partial(with_interval, scale=1, decimals=3, sign="+"),
        "change_in_percent": partial(with_interval, scale=100, decimals=2, sign="+"),
        "figure": calibrated_figure,
        "framing_text": framing_text,
        "share": lambda value: "-" if value is None else f"{100 * value:.1f}",
        "comparable_range_sets": comparable_range_sets,
        "group_name": lambda group: ", ".join(group[factor] for factor in group["by"].split(" x ")),
        "cell_name": lambda cell: ", ".join(cell[factor] for factor in ("race", "gender", "age") if factor in cell),
    }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def _describe_backbone(config: AgeGenderConfig) -> str:
    backbone: Any = config.backbone_config
    if backbone.model_type != "vit":
        return f"{backbone.model_type} backbone"
    patches = "a convolutional stem" if config.stem_channels else f"{backbone.patch_size}-pixel patches"
    return f"ViT of {backbone.num_hidden_layers} layers, width {backbone.hidden_size}, behind {patches}"


def _describe_hardware(hardware: dict[str, Any]) -> str:
    processor = f"{hardware['cpu']}, {hardware['cores']} core{'s' if hardware['cores'] > 1 else ''}"
    return f"{hardware['gpu']} ({processor})" if hardware.get("gpu") else processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the trained model's folder; its README.md is written")
    parser.add_argument("--repo_id", help="where the card's snippets load the model from, user/name")
    parser.add_argument("--revision", help="tag or commit the snippets pin")
    args = parser.parse_args()
    try:
        text = render_card(args.folder, args.repo_id, args.revision)
    except AgeGenderError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    write_atomically(args.folder / CARD, text)
    print(f"Wrote {args.folder / CARD}")


if __name__ == "__main__":
    main()
