"""Fill in what README.md shows of the shipped model: its results, a snippet's output, and how long it trained.

    python -m scripts.maintenance.update_readme [--check]

Everything between `<!-- name -->` and `<!-- /name -->` is replaced; `--check` only says whether it is up to date.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from model_card.metrics_text import telling_range_sets, with_interval


ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def fill_in(readme: str, blocks: dict[str, str]) -> str:
    """Replace what each named pair of markers encloses; a pair on one line stays on one line."""
    for name, content in blocks.items():
        pattern = rf"(<!-- {name} -->)(\n?).*?(<!-- /{name} -->)"
        if not re.search(pattern, readme, re.DOTALL):
            raise ValueError(f"README.md has no <!-- {name} --> ... <!-- /{name} -->.")
        readme = re.sub(
            pattern, lambda m, content=content: f"{m[1]}{m[2]}{content}{m[2]}{m[3]}", readme, flags=re.DOTALL
        )
    return readme


def results_table(metrics: dict) -> str:
    """The headline scores with their intervals, beside what always giving the same answer would score."""
    age, gender, ranges = metrics["age"], metrics["gender"], metrics["age_ranges"]
    answered, network = gender["abstention"]["answered"], metrics["network"]
    rows = [
        ("age: mean absolute error", years(age["mae"]), years(age["baseline"]["mae"])),
        ("age: within five years", percent(age["cs5"]), ""),
        ("gender", percent(gender["accuracy"]), percent(gender["baseline"]["accuracy"])),
        (f"gender of the {answered['value']:.0%} it is not unsure of", percent(gender["abstention"]["accuracy"]), ""),
    ]
    for name, scores in ranges.items():
        rows.append((f"{name}: right", percent(scores["accuracy"]), percent(scores["baseline"]["accuracy"])))
        rows.append((f"{name}: right or the range beside it", percent(scores["within_one"]), ""))
    interval = metrics["calibration"]["age_interval"]
    rows.append((f"labelled age inside the {interval['target']:.0%} interval", percent(interval["coverage"]), ""))
    lines = [
        f"On {metrics['pictures']:,} test pictures of {metrics['dataset']} that the model was never trained on; each candidate "
        "was chosen on validation and measured here once, later ones designed knowing the figures of earlier ones "
        f"(brackets: {metrics['bootstrap']['level']:.0%} bootstrap intervals):",
        "",
        "| | the model in `model/` | always the same answer |",
        "|---|---|---|",
        *(f"| {name} | {score} | {baseline} |" for name, score, baseline in rows),
        *(line for name, scores in metrics.get("outside", {}).items() for line in ("", outside_sentence(name, scores))),
        "",
        f"The weights take {network['megabytes']} MB, and the network {network['milliseconds_on_one_core']} ms for a face on "
        f"one core of an {network['processor']}.",
    ]
    return "\n".join(lines)


def outside_sentence(name: str, metrics: dict) -> str:
    """How the model does on a set it was neither trained nor chosen on, or on the held-out part of a further set it was."""
    parts = [f"gender {percent(metrics['gender']['accuracy'])}"] if "gender" in metrics else []
    if "age" in metrics:
        parts.append(f"age within {years(metrics['age']['mae'])} on average")
    for title, scores in list(telling_range_sets(metrics["age_ranges"]).items())[:1]:
        parts.append(f"{title} {percent(scores['accuracy'])}, or the range beside it {percent(scores['within_one'])}")
    found = metrics["pictures"] - (metrics["pictures_without_detected_face"] or 0)
    held_out = ", held out of its training on that set" if metrics["held_out_of_training"] else ""
    return f"On another set, {name} ({found:,} faces{held_out}; {metrics['framing']}): {'; '.join(parts)}."


def years(score: dict) -> str:
    return with_interval(score, 1, 2) + " years"


def percent(score: dict) -> str:
    return with_interval(score, 100, 1) + " %"


def training_time(run: dict) -> str:
    hardware = run["hardware"]
    threads = run["processes"] * hardware["threads"]
    device = hardware["gpu"] or f"{threads} thread{'s' * (threads > 1)} of an {hardware['cpu']}"
    seconds = run["seconds"] + ((run["started_from"] or {}).get("seconds") or 0)
    return f"{device}: {seconds / 60:.0f} minutes"


def snippet_output(readme: str) -> str:
    """What the first snippet of the README prints, in a fresh process."""
    code = re.search(r"<!-- snippet -->\n```python\n(.*?)```", readme, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"The README's snippet fails:\n{done.stderr}")
    return f"    {done.stdout.strip()}".replace("\n", "\n    ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if README.md is out of date")
    check = parser.parse_args().check
    readme = README.read_text(encoding="utf-8")
    metrics, run = (json.loads((ROOT / "model" / name).read_text()) for name in ("metrics.json", "training_run.json"))
    blocks = {"results": results_table(metrics), "time": training_time(run), "output": snippet_output(readme)}
    filled = fill_in(readme, blocks)
    if not check:
        README.write_text(filled, encoding="utf-8")
    elif filled != readme:
        sys.exit("README.md is out of date: run `python -m scripts.maintenance.update_readme`.")


if __name__ == "__main__":
    main()
