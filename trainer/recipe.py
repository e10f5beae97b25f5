"""A recipe is a YAML file of command-line arguments: read, checked and overridden by the command line itself."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


class RecipeError(ValueError):
    """The recipe cannot be used; the message says what was expected, what came and what to do."""


def parse_recipe(argv: Sequence[str], argument_classes: Sequence[type]) -> tuple[Any, ...]:
    """Read `[recipe.yaml] [--name value ...]` into one instance of each dataclass; the command line wins over the file.

    Every value of the file is handed to the same parser as the command line's, so both are checked alike.

    Raises:
        RecipeError: no such file, not a mapping, or an unknown key (the nearest known one is named).
        SystemExit: from argparse, for a value of the wrong type or an unknown flag.
    """
    # allow_abbrev=False: `--data` must be an error, not one of the arguments that begin with it
    parser = HfArgumentParser(list(argument_classes), allow_abbrev=False)
    argv = list(argv)
    if argv and not argv[0].startswith("-"):
        known = [field.name for cls in argument_classes for field in fields(cls) if field.init]
        argv = recipe_to_argv(Path(argv[0]), known) + argv[1:]
    return parser.parse_args_into_dataclasses(argv)


def recipe_to_argv(path: Path, known: Sequence[str]) -> list[str]:
    """`learning_rate: 1e-3` -> `["--learning_rate", "1e-3"]`; lists give several values, mappings JSON, null nothing."""
    if not path.is_file():
        raise RecipeError(f"No recipe at {path}: expected a YAML file such as trainer/recipes/vit_tiny.yaml.")
    try:
        recipe = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path} must hold lines of `name: value`, got {type(recipe).__name__}.")
    argv = []
    for key, value in recipe.items():
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else " `--help` lists them all."
            raise RecipeError(f"{path}: unknown key {key!r}.{hint}")
        if isinstance(value, dict):
            argv += [f"--{key}", json.dumps(value)]
        elif isinstance(value, list):
            argv += [f"--{key}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
        elif value is not None:
            argv += [f"--{key}", str(value)]
    return argv
