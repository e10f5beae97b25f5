"""What the commands have in common: how their options may be written, and how they end where something cannot be used."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from model.errors import AgeGenderError


@contextmanager
def errors_explained() -> Iterator[None]:
    """End the program with one line, and no traceback, for what its user can mend."""
    try:
        yield
    except AgeGenderError as error:
        sys.exit(f"error: {error}")


def with_dashes(argv: Sequence[str]) -> list[str]:
    """Options written as those of the trainer, `--part_size=9`, as argparse knows them here: `--part-size=9`."""
    words, end = list(argv), argv.index("--") if "--" in argv else len(argv)
    for index, word in enumerate(words[:end]):
        if word.startswith("--"):
            name, separator, value = word.partition("=")
            words[index] = name.replace("_", "-") + separator + value
    return words
