"""The table of an experiment: a single run with its intervals, several with mean and standard deviation."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.experiments.reports import format_table, summarize
from trainer.experiments.runs import Run


ROOT = Path(__file__).parents[3]


def test_mean_and_spread():
    record = {"parameters": 1_000_000, "seconds": 120, "arguments": {}}

    def run(name: str, mae: float) -> Run:
        score = {"value": mae, "low": mae - 1, "high": mae + 1}
        always = {"mae": {"value": 15.0, "low": 14.0, "high": 16.0}}
        return Run(name, {"pictures": 10, "age": {"mae": score, "cs5": score, "baseline": always}}, record)

    runs = [run("a", 4.0), run("a", 6.0), run("b", 5.5)]
    summary = summarize(runs)
    assert summary["mean"]["age MAE, years"] == pytest.approx(31 / 6)
    assert summary["standard deviation"]["age MAE, years"] == pytest.approx(1.0408, abs=1e-4)
    table = format_table(runs)
    assert "| a | 2 | 10 | 5.00 ± 1.41 | 500.0 ± 141.4 | 1.00 M | 2.0 |" in table
    assert "| b | 1 | 10 | 5.50 [4.50, 6.50] |" in table
    assert "| median and majority-class baseline | | | 15.00 [14.00, 16.00] | - | | |" in table
    assert "| median and majority-class baseline | | | 15.00 ± 0.00 | - | | |" in format_table(runs, spread=True)
    assert "gender" not in table


def test_adjacent_ranges_count_in_the_1_off_accuracy():
    scores = {
        name: {"value": value, "low": None, "high": None} for name, value in (("accuracy", 0.5), ("within_one", 0.9))
    }
    always = {"accuracy": {"value": 0.3, "low": None, "high": None}}
    metrics = {"pictures": 10, "age_ranges": {"FairFace-9": scores | {"baseline": always}}}
    table = format_table([Run("a", metrics, {"parameters": 1_000_000, "seconds": 60})])
    assert "| FairFace-9 accuracy, % | FairFace-9 1-off accuracy, % |" in table
    assert "| a | 1 | 10 | 50.0 | 90.0 | 1.00 M | 1.0 |" in table
    assert "| median and majority-class baseline | | | 30.0 | - | | |" in table


def test_comparisons_and_cross_validation_need_no_optuna():
    """requirements.txt, which the README asks for, lacks it."""
    script = "import sys; sys.modules['optuna'] = None; import scripts.cross_validate, trainer.experiments.runs"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
