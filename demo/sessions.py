"""How much memory a session's state takes, in round figures."""

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch


def size_of(value: Any) -> int:
    """Bytes of a value with all that it holds. Long lists are taken to hold values like their first."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return 64 + sum(map(size_of, value.keys())) + sum(map(size_of, value.values()))
    if isinstance(value, list | tuple | set):
        return 64 + _size_of_all(value)
    own = sys.getsizeof(value, 64)
    return own + size_of(vars(value)) if hasattr(value, "__dict__") and not isinstance(value, type) else own


def _size_of_all(values: Iterable[Any]) -> int:
    values = list(values)
    if len(values) > 50 and isinstance(values[0], float | int):
        return len(values) * (8 + sys.getsizeof(values[0]))
    return sum(8 + size_of(value) for value in values)
