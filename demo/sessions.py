"""The states of visitors' sessions, which Gradio keeps: how much memory they take, and which are forgotten."""

import math
import sys
import time
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
import numpy as np
import torch
from gradio.state_holder import SessionState


MAX_SESSIONS = 500  # whose state Gradio keeps; every API call counts as one
SESSION_BYTES = 100_000_000  # of all their states
# state of a session -> when it was used last, by the monotonic clock, and its bytes
_weights: "WeakKeyDictionary[SessionState, tuple[float, int]]" = WeakKeyDictionary()


def weigh_session(state: SessionState) -> None:
    """Note that a session is used now, and what its state weighs."""
    _weights[state] = time.monotonic(), size_of(state.state_data)


def forget_sessions(blocks: gr.Blocks, keep_seconds: float = math.inf) -> None:
    """Drop the states that were used longest ago, until all together are small enough, and those older than `keep_seconds`.

    Gradio counts states and does not weigh them, and tells their age by a clock that can be set back:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/state_holder.py#L39
    """
    sessions = blocks.app.state_holder.session_data if hasattr(blocks, "app") else {}  # none before the start
    known = [(name, *_weights.get(state, (math.inf, 0))) for name, state in list(sessions.items())]  # inf: in first use
    total, oldest = sum(size for _, _, size in known), time.monotonic() - keep_seconds
    for name, used, size in sorted(known, key=lambda session: session[1]):
        if used > oldest and total <= SESSION_BYTES:
            return
        sessions.pop(name, None)
        total -= size


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
