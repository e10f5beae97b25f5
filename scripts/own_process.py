"""Measure in a process of its own, so that the peak memory is that of the measurement alone."""

import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import datasets


Arguments, Result = ParamSpec("Arguments"), TypeVar("Result")


def in_own_process(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """`function` and what it takes and returns must be picklable; `datasets` says nothing there."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_quieten) as process:
        return process.submit(function, *args, **kwargs).result()


def peak_memory_mib() -> float:
    """The most that this process has held in memory at once; Linux only."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def _quieten() -> None:
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()  # which would say that a transform with a clock in it has no hash
