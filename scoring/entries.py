"""One picture of an input, named but not yet read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


Content = str | bytes | np.ndarray  # what the pipeline takes: path or URL, encoded bytes, (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class Entry:
    """name: as it stands in the results. read: gives the content, or raises a ValueError or OSError that says why not;
    to be called before the next entry is asked for, since archives and videos only go forwards. seconds: of a video.
    """

    name: str
    read: Callable[[], Content]
    seconds: float | None = None


class Source(Protocol):
    """Pictures in an order that is the same whenever the source is the same."""

    def __iter__(self) -> Iterator[Entry]: ...

    def count(self) -> int:
        """How many entries there are: exact, but for a video estimated from its header."""

    def signature(self) -> str:
        """Changes when the entries or their order do."""


def failing(error: Exception) -> Callable[[], Content]:
    """A `read` for what cannot be read."""

    def read() -> Content:
        raise error

    return read
