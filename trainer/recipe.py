"""Read a recipe: a YAML file of command-line arguments, which the command line itself overrides.

Both go through one `HfArgumentParser`, so a value is checked alike wherever it stands.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from model.errors import AgeGenderError
from model_card.run_record import RENAMED_ARGUMENTS
from trainer.devices import why_no_gpu
from trainer.inherited_arguments import REFUSED


EXAMPLE = "trainer/recipes/vit_tiny.yaml"


class RecipeError(AgeGenderError):
    """The recipe or an argument cannot be used."""


def recipe_path(argv: Sequence[str]) -> Path | None:
    """The recipe in `[recipe.yaml] [--name value ...]`, if there is one."""
    return Path(argv[0]) if argv and not argv[0].startswith("-") else None


def parse_recipe(argv: Sequence[str], argument_classes: Sequence[type]) -> tuple[Any, ...]:
    """Read `[recipe.yaml] [--name value ...]` into one instance of each dataclass; the command line wins over the file.

    Raises:
        RecipeError: no such file, not a mapping, an unknown name, one that is refused, a value of the wrong type, values
            that contradict each other, or 16-bit training without a GPU.
    """
    parser, known = _parser(argument_classes)
    from_file, from_command_line = [], list(argv)
    recipe = recipe_path(argv)
    if recipe:
        from_command_line.pop(0)
        from_file = _mapping_to_argv(read_mapping(recipe, "recipe", EXAMPLE), known, str(recipe))
        _check_values(parser, from_file, known, str(recipe))
    _check_values(parser, from_command_line, known, "command line")
    return _parse(parser, from_file + from_command_line)


def parse_mapping(mapping: dict[str, Any], argument_class: type, where: str) -> Any:
    """One instance of a dataclass from `name: value`, checked as a recipe is.

    Args:
        where: what holds the mapping, for error messages.

    Raises:
        RecipeError: as `parse_recipe`.
    """
    parser, known = _parser([argument_class])
    argv = _mapping_to_argv(mapping, known, where)
    _check_values(parser, argv, known, where)
    return _parse(parser, argv)[0]


def read_mapping(path: Path, kind: str, example: str) -> dict[str, Any]:
    """The `name: value` lines of a YAML file.

    Args:
        kind: what the file should be, for error messages.
        example: a file of that kind, for error messages.

    Raises:
        RecipeError: no such file, not YAML, or not a mapping.
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


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """`{"learning_rate": 1e-3}` -> `["--learning_rate", "0.001"]`; lists give several values, mappings JSON, None nothing."""
    flags = []
    for name, value in values.items():
        if isinstance(value, dict):
            flags += [f"--{name}", json.dumps(value)]
        elif isinstance(value, (list, tuple)):
            flags += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
        elif value is not None:
            flags += [f"--{name}", str(value)]
    return flags


def did_you_mean(name: str, known: Collection[str], otherwise: str = "") -> str:
    """The end of an error message about an unknown name: what the name is called today, or the nearest known name.

    Args:
        otherwise: returned where no known name is near.
    """
    if RENAMED_ARGUMENTS.get(name) in known:
        return f" It is called {RENAMED_ARGUMENTS[name]!r} now."
    nearest = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else otherwise


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults, and the examples of a docstring as they are."""


def _parser(argument_classes: Sequence[type]) -> tuple[HfArgumentParser, list[str]]:
    """The parser of these dataclasses, and the names that can be used."""
    # allow_abbrev=False: `--data` must be an error, not one of the arguments that begin with it
    dataclasses: list[Any] = list(argument_classes)
    program: Any = sys.modules["__main__"]  # whose help this is; from Python 3.14 on, argparse names it by itself
    parser = HfArgumentParser(
        dataclasses,
        prog=f"python -m {program.__spec__.name}" if getattr(program, "__spec__", None) else None,
        description=program.__doc__,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for action in parser._actions:
        if action.dest == "report_to":  # `str | list[str]`, which HfArgumentParser reads as one string
            action.nargs = "+"
        if action.dest in REFUSED:
            action.help = argparse.SUPPRESS  # `--help` lists what can be used
    names = [field.name for cls in argument_classes for field in fields(cls) if field.init]
    return parser, [name for name in names if name not in REFUSED]


def _parse(parser: HfArgumentParser, argv: list[str]) -> tuple[Any, ...]:
    try:
        return parser.parse_args_into_dataclasses(argv)
    except AgeGenderError:
        raise
    except ValueError as error:  # what the dataclasses check when they are made, transformers' own among them
        is_about_16_bits = "setup doesn't support" in str(error)  # bf16, fp16 or tf32 without the hardware
        hint = f" (A GPU is asked for, {why_no_gpu()}.)" if is_about_16_bits else ""
        raise RecipeError(f"{error}{hint}") from error


def _check_values(parser: HfArgumentParser, argv: Sequence[str], known: Sequence[str], where: str) -> None:
    """
    Raises:
        RecipeError: a value of the wrong type, an unknown or refused flag, or a list where one value belongs.
    """
    if {"-h", "--help"} & set(argv):
        return
    for word in argv:
        if word.startswith("--"):
            _check_refused(_name_of(word).removeprefix("no_"), where)  # `--no_x` turns off what is on by default
    try:
        _, left = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        name = (error.argument_name or "").split("/")[0].removeprefix("--")
        raise RecipeError(f"{where}: {name}: {error.message}.") from None
    unknown = next((word for word in left if word.startswith("--")), None)
    if unknown:
        hint = did_you_mean(_name_of(unknown), known, otherwise=" `--help` lists them all.")
        raise RecipeError(f"{where}: unknown argument {unknown}.{hint}")
    if left:
        flag = next((word for word in reversed(argv[: argv.index(left[0])]) if word.startswith("--")), None)
        if flag is None:
            raise RecipeError(f"{where}: expected one recipe and then --name value, got {left[0]!r}.")
        raise RecipeError(f"{where}: {flag[2:]}: expected one value, got also {' '.join(left)!r}.")


def _name_of(flag: str) -> str:
    """`--hub-token=...` -> `hub_token`."""
    return flag.lstrip("-").partition("=")[0].replace("-", "_")


def _check_refused(name: str, where: str) -> None:
    """
    Raises:
        RecipeError: the argument is refused, whatever its value, which the message does not show: it may be a token.
    """
    if name in REFUSED:
        raise RecipeError(f"{where}: {name} is not used here: {REFUSED[name]}.")


def _mapping_to_argv(mapping: dict[str, Any], known: Sequence[str], where: str) -> list[str]:
    """The mapping as the command line would say it (`as_flags`), its names checked."""
    for key in mapping:
        _check_refused(key, where)
        if key not in known:
            hint = did_you_mean(str(key), known, otherwise=" `--help` lists them all.")
            raise RecipeError(f"{where}: unknown key {key!r}.{hint}")
    return as_flags(mapping)
