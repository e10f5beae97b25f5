"""One training run of an experiment with what was measured of it; a run that is finished is not repeated."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from model.configuration_age_gender import RANGE_SETS
from trainer.arguments import Arguments
from trainer.model_evaluation import EvaluationArguments, evaluate_model
from trainer.run_record import RUN_RECORD
from trainer.scores.evaluation import Score
from trainer.train import main as train


SCORES = {  # title: (where in metrics.json, factor, decimals)
    "age MAE, years": (("age", "mae"), 1, 2),
    "age within five years, %": (("age", "cs5"), 100, 1),
    **{f"{name}, %": (("age_ranges", name, "accuracy"), 100, 1) for name in RANGE_SETS},
    "FairFace-9 or beside it, %": (("age_ranges", "FairFace-9", "within_one"), 100, 1),
    "gender, %": (("gender", "accuracy"), 100, 1),
}


@dataclass(frozen=True)
class Run:
    """A finished run. `name`: of its arm or fold, which several runs may share."""

    name: str
    metrics: dict[str, Any]
    record: dict[str, Any]

    def scores(self) -> dict[str, Score]:
        """{title: score in the title's unit}, of what the data has labels for."""
        return self._scores(lambda of_head, measure: of_head[measure])

    def baseline_scores(self) -> dict[str, Score]:
        """The same of always giving one answer, where that has a score."""
        return self._scores(lambda of_head, measure: of_head["baseline"].get(measure))

    def _scores(self, pick: Callable[[dict[str, Any], str], Score | None]) -> dict[str, Score]:
        found = {}
        for title, ((*head, measure), factor, _) in SCORES.items():
            of_head = reduce(lambda metrics, name: metrics.get(name, {}), head, self.metrics)
            score = of_head and pick(of_head, measure)
            if score:
                found[title] = score | {end: score[end] and score[end] * factor for end in ("value", "low", "high")}
        return found


def train_once(argv: Sequence[str], output_dir: Path) -> list[str]:
    """Train into `output_dir`, or go on from where an earlier call was stopped; what it was trained with.

    Args:
        argv: as of trainer.train, but for the output.
    """
    arguments = [*argv, "--output_dir", str(output_dir), "--report", "false"]
    if not (output_dir / RUN_RECORD).exists():
        train([*arguments, "--resume_from_checkpoint", "true"])
    return arguments


def run_once(name: str, argv: Sequence[str], output_dir: Path, split: str) -> Run:
    """`train_once`, then measure on `split`, unless an earlier call did."""
    arguments = train_once(argv, output_dir)
    measured = output_dir / f"on_{split}"
    if not (measured / "metrics.json").exists():
        measured.mkdir(exist_ok=True)
        with (measured / "metrics.txt").open("w") as file, contextlib.redirect_stdout(file):
            evaluation = EvaluationArguments(model=str(output_dir), output_dir=str(measured), split=split)
            evaluate_model(evaluation, replace(Arguments.parse(arguments).data, streaming=False))
    return Run(name, *(json.loads(path.read_text()) for path in (measured / "metrics.json", output_dir / RUN_RECORD)))
