"""Which arguments of a recipe are searched, and between what: a small YAML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.recipe import RecipeError, nearest, read_mapping


EXAMPLE = "the one that `python -m scripts.tune --help` shows"
DEFAULT_SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
    "weight_decay": {"low": 1e-3, "high": 0.3, "log": True},
    "head_dropout": {"low": 0.0, "high": 0.4},
    "age_sigma_years": {"low": 1.0, "high": 4.0},
    "gender_label_smoothing": [0.0, 0.05, 0.1],
}


@dataclass(frozen=True)
class SearchSpace:
    """`{learning_rate: {low: 1e-4, high: 3e-3, log: true}, per_device_train_batch_size: [32, 64]}`.

    A range of whole numbers gives whole numbers, any other range numbers with a fraction; a list gives its members.
    """

    choices: Mapping[str, list[Any] | dict[str, Any]]

    @classmethod
    def read(cls, path: Path | None, known: Sequence[str]) -> "SearchSpace":
        """
        Args:
            known: names of the arguments that can be searched.

        Raises:
            RecipeError: no such file, a name that cannot be searched, or neither a list nor a range with low below high.
        """
        where = path or "the default space"
        space = read_mapping(path, "search space", EXAMPLE) if path else DEFAULT_SPACE
        choices = {}
        for name, choice in space.items():
            if name not in known:
                raise RecipeError(f"{where}: {name!r} cannot be searched.{nearest(str(name), known)}")
            choices[name] = _check(choice, f"{where}: {name}")
        if not choices:
            raise RecipeError(f"{where} names nothing to search.")
        return cls(choices)

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The values of an `optuna` trial; asking a trial again gives the same ones."""
        values = {}
        for name, choice in self.choices.items():
            if isinstance(choice, list):
                values[name] = trial.suggest_categorical(name, choice)
            else:
                whole = isinstance(choice["low"], int) and isinstance(choice["high"], int)
                suggest = trial.suggest_int if whole else trial.suggest_float
                values[name] = suggest(name, choice["low"], choice["high"], log=choice.get("log", False))
        return values


def _check(choice: Any, where: str) -> list[Any] | dict[str, Any]:
    if isinstance(choice, list) and choice:
        return [_number_if_one(value) for value in choice]
    if isinstance(choice, dict) and {"low", "high"} <= set(choice) <= {"low", "high", "log"}:
        low, high = _number(choice["low"], where), _number(choice["high"], where)
        if low < high and (low > 0 or not choice.get("log")):
            return {"low": low, "high": high, "log": bool(choice.get("log"))}
    raise RecipeError(
        f"{where}: expected a list, or {{low, high}} with low below high (and log: true above 0); got {choice}."
    )


def _number_if_one(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value  # YAML reads 1e-4 as text
    except ValueError:
        return value


def _number(value: Any, where: str) -> int | float:
    if isinstance(value, int):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RecipeError(f"{where}: expected a number, got {value!r}.") from None
