"""Fill in what the documents show of the shipped model and of the code: results, a snippet's output, the import diagram,
the arguments of a training.

    python -m scripts.maintenance.update_docs [--check]

The command replaces everything between `<!-- name -->` and `<!-- /name -->`; `--check` only says whether a file is out of date.
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import grimp
import networkx
from transformers import TrainingArguments

from model_card.metrics_text import Score, comparable_range_sets, markdown_table, with_interval
from scripts.maintenance import fill_in
from trainer.arguments import RunArguments
from trainer.inherited_arguments import REFUSED, WORKING


ROOT = Path(__file__).parents[2]
PACKAGES = ("model", "model_card", "trainer", "cluster", "scoring", "demo", "scripts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is out of date")
    check = parser.parse_args().check
    metrics, run = (json.loads((ROOT / "model" / name).read_text()) for name in ("metrics.json", "training_run.json"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = {
        "README.md": {
            "results": summary_table(metrics),
            "time": training_time(run),
            "output": snippet_output(readme),
        },
        "docs/results.md": {"results": full_table(metrics)},
        "docs/training.md": {"arguments": arguments_tables()},
        "CONTRIBUTING.md": {"imports": import_diagram()},
    }
    for name, of_file in blocks.items():
        bring_up_to_date(ROOT / name, of_file, check=check)


def bring_up_to_date(path: Path, blocks: dict[str, str], *, check: bool) -> None:
    """Fill in the blocks of a document; with `check` leave it as it is, and exit if they differ."""
    text = path.read_text(encoding="utf-8")
    filled = fill_in(text, blocks, str(path))
    if filled == text:
        return
    if check:
        sys.exit(f"{path} is out of date: run `python -m scripts.maintenance.update_docs`.")
    path.write_text(filled, encoding="utf-8")


def summary_table(metrics: dict[str, Any]) -> str:
    """The headline scores on the test split and on each external set, beside the majority-class and median baselines."""
    columns = [metrics, *metrics.get("outside", {}).values()]
    rows = [
        ("age: mean absolute error", [years(one["age"]["mae"]) if "age" in one else "" for one in columns]),
        ("age: within five years", [percent(one["age"]["cs5"]) if "age" in one else "" for one in columns]),
        (
            "age: in the 80% interval",
            [percent(one["calibration"]["age_interval"]["coverage"]) if "age" in one else "" for one in columns],
        ),
        ("gender: accuracy", [percent(one["gender"]["accuracy"]) if "gender" in one else "" for one in columns]),
        ("nine age ranges: accuracy", [percent(one["age_ranges"]["FairFace-9"]["accuracy"]) for one in columns]),
        (
            "nine age ranges: 1-off accuracy",
            [percent(one["age_ranges"]["FairFace-9"]["within_one"]) for one in columns],
        ),
        ("faces not detected", [missed(one) for one in columns]),
    ]
    age, gender, ranges = metrics["age"], metrics["gender"], metrics["age_ranges"]["FairFace-9"]
    baselines = [
        years(age["baseline"]["mae"]),
        "",
        "",
        percent(gender["baseline"]["accuracy"]),
        percent(ranges["baseline"]["accuracy"]),
        "",
        "",
    ]
    names = [f"UTKFace, {metrics['pictures']:,} faces", *(external_name(*item) for item in metrics["outside"].items())]
    return markdown_table(
        ["test split", *names, "UTKFace, baseline"],
        [[row, *of, base] for (row, of), base in zip(rows, baselines, strict=True)],
    )


def external_name(name: str, metrics: dict[str, Any]) -> str:
    undetected = metrics["pictures_without_detected_face"]
    if undetected is None:
        return f"{name}, {metrics['pictures']:,} faces"
    return f"{name}, {metrics['pictures'] - undetected:,} faces that the pipeline detected and aligned"


def missed(metrics: dict[str, Any]) -> str:
    count = metrics["pictures_without_detected_face"]
    return "" if count is None else f"{count} of {metrics['pictures']:,}, not scored above"


def full_table(metrics: dict[str, Any]) -> str:
    """The scores on UTKFace's test split with all range sets, and a sentence for each external set."""
    age, gender, ranges = metrics["age"], metrics["gender"], metrics["age_ranges"]
    answered, network = gender["abstention"]["answered"], metrics["network"]
    rows = [
        ("age: mean absolute error", years(age["mae"]), years(age["baseline"]["mae"])),
        ("age: within five years", percent(age["cs5"]), ""),
        ("gender: accuracy", percent(gender["accuracy"]), percent(gender["baseline"]["accuracy"])),
        (f"gender: accuracy where it answers ({answered['value']:.0%})", percent(gender["abstention"]["accuracy"]), ""),
    ]
    for name, scores in ranges.items():
        rows.append((f"{name}: accuracy", percent(scores["accuracy"]), percent(scores["baseline"]["accuracy"])))
        rows.append((f"{name}: 1-off accuracy", percent(scores["within_one"]), ""))
    interval = metrics["calibration"]["age_interval"]
    rows.append((f"coverage of the {interval['target']:.0%} age interval", percent(interval["coverage"]), ""))
    lines = [
        f"{metrics['pictures']:,} test faces of {metrics['dataset']}, none of which the model was trained on. Brackets: "
        f"{metrics['bootstrap']['level']:.0%} bootstrap intervals. Baseline: the majority class; for the age the median.",
        "",
        markdown_table(["", "the model in `model/`", "baseline"], rows),
        *(
            line
            for name, scores in metrics.get("outside", {}).items()
            for line in ("", external_sentence(name, scores))
        ),
        "",
        f"The weights take {network['megabytes']} MB. The network takes {network['milliseconds_on_one_core']} ms for a face "
        f"on one core of an {network['processor']}.",
    ]
    return "\n".join(lines)


def external_sentence(name: str, metrics: dict[str, Any]) -> str:
    """How the model does on an external test set, or on the held-out part of a further training set."""
    parts = [f"gender {percent(metrics['gender']['accuracy'])}"] if "gender" in metrics else []
    if "age" in metrics:
        coverage = metrics["calibration"]["age_interval"]["coverage"]
        parts.append(f"age MAE {years(metrics['age']['mae'])}; {percent(coverage)} of the ages lie in the interval")
    for title, scores in list(comparable_range_sets(metrics["age_ranges"]).items())[:1]:
        parts.append(f"{title} {percent(scores['accuracy'])}, 1-off {percent(scores['within_one'])}")
    found = metrics["pictures"] - (metrics["pictures_without_detected_face"] or 0)
    held_out = ", held out of the training on that set" if metrics["held_out_of_training"] else ""
    return f"On {name} ({found:,} faces{held_out}; {metrics['framing']}): {'; '.join(parts)}."


def years(score: Score) -> str:
    return with_interval(score, 1, 2) + " years"


def percent(score: Score) -> str:
    return with_interval(score, 100, 1) + " %"


def training_time(run: dict[str, Any]) -> str:
    hardware = run["hardware"]
    threads = run["processes"] * hardware["threads"]
    device = hardware["gpu"] or f"{threads} thread{'s' * (threads > 1)} of an {hardware['cpu']}"
    before = (run["started_from"] or {}).get("seconds")
    earlier = f", after {before / 60:.0f} for the runs that it was fine-tuned from" if before else ""
    return f"{device}: {run['seconds'] / 60:.0f} minutes{earlier}"


def snippet_output(readme: str) -> str:
    """What the first snippet of the README prints, in a fresh process."""
    match = re.search(r"<!-- snippet -->\n```python\n(.*?)```", readme, re.DOTALL)
    if match is None:
        raise ValueError("README.md has no Python snippet after <!-- snippet -->.")
    done = subprocess.run([sys.executable, "-c", match[1]], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"The README's snippet fails:\n{done.stderr}")
    return f"    {done.stdout.strip()}".replace("\n", "\n    ")


def arguments_tables() -> str:
    """What becomes of each argument of transformers' TrainingArguments: those that work by topic, those that are refused."""
    works = markdown_table(
        ["what for", "arguments that work as transformers documents them"],
        [[topic, ", ".join(f"`{name}`" for name in names)] for topic, names in WORKING.items()],
    )
    own, theirs = ({one.name: one.default for one in fields(cls)} for cls in (RunArguments, TrainingArguments))
    defaults = markdown_table(
        ["argument", "default here", "in transformers"],
        [[f"`{name}`", f"`{own[name]}`", f"`{theirs[name]}`"] for name in theirs if own[name] != theirs[name]],
    )
    refused = markdown_table(
        ["refused argument", "why, or what to use instead"],
        [[f"`{name}`", f"{reason[0].upper()}{reason[1:]}."] for name, reason in REFUSED.items()],
    )
    return "\n\n".join([works, defaults, refused])


def import_diagram() -> str:
    """A Mermaid graph of which folder imports which, read from the code."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    arrows = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            arrow = importer.split(".")[0], imported.split(".")[0]
            if arrow[0] != arrow[1]:
                arrows.add(arrow)
    # app.py is no package: grimp does not see it
    arrows |= {("app.py", name) for name in PACKAGES if f"from {name}" in (ROOT / "app.py").read_text()}
    direct = networkx.transitive_reduction(networkx.DiGraph(arrows))  # else app.py has an arrow to each of them
    lines = [f"    {importer} --> {imported}" for importer, imported in sorted(direct.edges)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


if __name__ == "__main__":
    main()
