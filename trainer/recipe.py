"""A recipe is a YAML file of command-line arguments: read, checked and overridden by the command line itself."""

import argparse
import difflib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from trainer.devices import why_no_gpu


class RecipeError(ValueError):
    """The recipe cannot be used; the message says what was expected, what came and what to do."""


def parse_recipe(argv: Sequence[str], argument_classes: Sequence[type]) -> tuple[Any, ...]:
    """Read `[recipe.yaml] [--name value ...]` into one instance of each dataclass; the command line wins over the file.

    Every value of the file is handed to the same parser as the command line's, so both are checked alike.

    Raises:
        RecipeError: no such file, not a mapping, an unknown key or flag (the nearest known one is named), or a value of
            the wrong type; a token in the file; or 16-bit training where there is no GPU.
    """
    # allow_abbrev=False: `--data` must be an error, not one of the arguments that begin with it
    parser = HfArgumentParser(list(argument_classes), allow_abbrev=False, exit_on_error=False)
    for action in parser._actions:
        if action.dest == "report_to":  # `str | list[str]`, which HfArgumentParser reads as one string
            action.nargs = "+"
    known = [field.name for cls in argument_classes for field in fields(cls) if field.init]
    argv, from_file = list(argv), []
    if argv and not argv[0].startswith("-"):
        path = Path(argv.pop(0))
        mapping = read_mapping(path, "recipe", "trainer/recipes/vit_tiny.yaml")
        if "hub_token" in mapping:
            raise RecipeError(
                f"{path}: hub_token does not belong in a recipe, whose text is published with the model. Take it out, and "
                "log in with `hf auth login` or set HF_TOKEN."
            )
        from_file = mapping_to_argv(mapping, known, str(path))
        check_values(parser, from_file, known, str(path))
    check_values(parser, argv, known, "command line")
    try:
        return parser.parse_args_into_dataclasses(from_file + argv)
    except ValueError as error:
        if "setup doesn't support" in str(error):  # of transformers: bf16, fp16 or tf32 without the hardware
            raise RecipeError(f"{error} (A GPU is asked for, {why_no_gpu()}.)") from None
        raise


def parse_mapping(mapping: dict[str, Any], argument_class: type, where: str) -> Any:
    """One instance of a dataclass from `name: value`, checked as a recipe is.

    Raises:
        RecipeError: an unknown key (the nearest known one is named) or a value of the wrong type.
    """
    parser = HfArgumentParser([argument_class], allow_abbrev=False, exit_on_error=False)
    known = [field.name for field in fields(argument_class) if field.init]
    argv = mapping_to_argv(mapping, known, where)
    check_values(parser, argv, known, where)
    return parser.parse_args_into_dataclasses(argv)[0]


def check_values(parser: HfArgumentParser, argv: Sequence[str], known: Sequence[str], where: str) -> None:
    """Raise `RecipeError` for a value of the wrong type, a flag that is not known, or a list where one value belongs."""
    if {"-h", "--help"} & set(argv):
        return
    try:
        _, left = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        name = (error.argument_name or "").split("/")[0].removeprefix("--")
        raise RecipeError(f"{where}: {name}: {error.message}.") from None
    unknown = next((word for word in left if word.startswith("--")), None)
    if unknown:
        raise RecipeError(f"{where}: unknown argument {unknown}.{nearest(unknown.lstrip('-'), known)}")
    if left:
        name = next((word for word in reversed(argv[: argv.index(left[0])]) if word.startswith("--")), None)
        if name is None:
            raise RecipeError(f"{where}: expected one recipe and then --name value, got {left[0]!r}.")
        raise RecipeError(f"{where}: {name[2:]}: expected one value, got also {' '.join(left)!r}.")


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint at the known name that `name` may have been meant for."""
    names = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {names[0]!r}?" if names else " `--help` lists them all."


def mapping_to_argv(mapping: dict[str, Any], known: Sequence[str], where: str) -> list[str]:
    """`learning_rate: 1e-3` -> `["--learning_rate", "1e-3"]`; lists give several values, mappings JSON, null nothing."""
    argv = []
    for key, value in mapping.items():
        if key not in known:
            raise RecipeError(f"{where}: unknown key {key!r}.{nearest(str(key), known)}")
        if isinstance(value, dict):
            argv += [f"--{key}", json.dumps(value)]
        elif isinstance(value, list):
            argv += [f"--{key}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
        elif value is not None:
            argv += [f"--{key}", str(value)]
    return argv


def read_mapping(path: Path, kind: str, example: str) -> dict[str, Any]:
    """The `name: value` lines of a YAML file.

    Args:
        kind: what the file is, for people. example: a file of that kind that there is.

    Raises:
        RecipeError: no such file, or it is something else.
    """
    if not path.is_file():
        raise RecipeError(f"No {kind} at {path}: expected a YAML file such as {example}.")
    try:
        mapping = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(mapping, dict):
        raise RecipeError(f"{path} must hold lines of `name: value`, got {type(mapping).__name__}.")
    return mapping
