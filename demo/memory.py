"""The demo's memory: how much of it pictures and sessions may take together, whoever sends them, and how what they leave behind
goes back to the system.
"""

import ctypes
import gc
import math
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
import numpy as np
import torch
from gradio.state_holder import SessionState

from demo.fair_use import BusyError
from model.decoding_limits import MAX_PIXELS


WAIT_SECONDS = 20.0  # for memory, or for a process
SMALL_PIXELS = 2_000_000  # so many need no place: a webcam's frame has 300,000

MAX_SESSIONS = 500  # whose state Gradio keeps; every API call counts as one
SESSION_BYTES = 100_000_000  # of all their states
# state of a session -> when it was used last, by the monotonic clock, and its bytes
_weights: "WeakKeyDictionary[SessionState, tuple[float, int]]" = WeakKeyDictionary()

M_ARENA_MAX = -8  # mallopt's parameter in malloc.h
MALLOC_ARENAS = 2
TRIM_SECONDS = 5.0  # a trim takes up to 10 ms


class PixelBudget:
    """How many pixels of large pictures are in memory at the same time, from before they are decoded until they are freed."""

    def __init__(self, pixels: int = MAX_PIXELS):
        self._free, self._waiting, self._changed = pixels, deque[object](), threading.Condition()

    @contextmanager
    def place(self, pixels: int, is_gone: Callable[[], bool]) -> "Iterator[Callable[[np.ndarray], None]]":
        """Wait in line for a place, which is given back after the block, or when the array that was named is freed.

        Raises:
            BusyError: there is no place in time, or the visitor has left.
        """
        if pixels <= SMALL_PIXELS:
            yield lambda image_rgb: None
            return
        self._take(pixels, is_gone)
        named: list[np.ndarray] = []
        try:
            yield named.append
        finally:
            if named:
                weakref.finalize(named.pop(), self._give_back, pixels)
            else:
                self._give_back(pixels)

    def _take(self, pixels: int, is_gone: Callable[[], bool]) -> None:
        ticket, deadline = object(), time.monotonic() + WAIT_SECONDS
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or self._free < pixels:
                    if time.monotonic() > deadline or is_gone():
                        raise BusyError
                    if not self._changed.wait(1.0):
                        gc.collect()  # a picture in a cycle of references
                self._free -= pixels
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _give_back(self, pixels: int) -> None:
        with self._changed:
            self._free += pixels
            self._changed.notify_all()


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


def limit_malloc_arenas() -> bool:
    """Whether the C library took it; to be called before threads are started.

    glibc gives every thread an arena of its own, and each keeps what was freed in it. A fixed M_MMAP_THRESHOLD as well saves
    a little more, but makes pictures with many faces a third slower.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, MALLOC_ARENAS))
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return False


def return_freed_memory(every_seconds: float = TRIM_SECONDS) -> None:
    """Start a thread that does so regularly.

    By itself glibc returns only what lies above the last block in use: after some large pictures that can be 200 MiB less than
    is free. https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return

    def trim_regularly() -> None:
        never = threading.Event()
        while not never.wait(every_seconds):
            malloc_trim(0)

    threading.Thread(target=trim_regularly, daemon=True).start()


def exempt_from_collections() -> None:
    """What is held now, by libraries and models, is never looked at again for garbage; to be called when all is loaded.

    Of its half a million objects a full collection takes half a second, in which no other thread runs.
    """
    gc.collect()
    gc.freeze()
