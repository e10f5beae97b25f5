"""Measure in a process of its own, so that the peak memory is that of the measurement alone."""

import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import datasets
import torch
from transformers import TrainerCallback


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


PHASES = ("decode", "transforms", "wait", "forward", "backward", "update")
WARM_UP_STEPS = 3


class Clock:
    """Seconds by phase, of this process and of the loader's workers."""

    def __init__(self, cpu_time: bool, waits_for_gpu: bool = True):
        """`waits_for_gpu`: after each phase, to tell them apart; else only at the end."""
        self._seconds = {phase: multiprocessing.Value("d") for phase in PHASES}
        self._started = 0.0
        self._read = time.process_time if cpu_time else time.perf_counter
        self._waits_for_gpu = waits_for_gpu

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.add(name, self.now() - start)

    def add(self, name: str, seconds: float) -> None:
        with self._seconds[name].get_lock():
            self._seconds[name].value += seconds

    def restart(self) -> None:
        for seconds in self._seconds.values():
            seconds.value = 0.0
        wait_for_gpu()
        self._started = self.now()

    def read(self) -> tuple[float, dict[str, float]]:
        """Seconds since the restart, altogether and by phase."""
        wait_for_gpu()
        return self.now() - self._started, {name: seconds.value for name, seconds in self._seconds.items()}

    def now(self) -> float:
        if self._waits_for_gpu:
            wait_for_gpu()
        return self._read()


def wait_for_gpu() -> None:
    if torch.cuda.is_initialized():  # never so in a worker
        torch.cuda.synchronize()


class Timed:
    """What a Trainer does at each step, by phase. Goes before the Trainer's class among the bases."""

    clock: Clock

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        backward = self.accelerator.backward

        def timed_backward(loss, **kwargs):
            with self.clock.phase("backward"):
                backward(loss, **kwargs)

        self.accelerator.backward = timed_backward

    def get_batch_samples(self, *args, **kwargs):
        with self.clock.phase("wait"):
            return super().get_batch_samples(*args, **kwargs)

    def compute_loss(self, *args, **kwargs):
        with self.clock.phase("forward"):
            return super().compute_loss(*args, **kwargs)


class StepTimes(TrainerCallback):
    """Leaves the first steps out, and times the optimizer, which the Trainer calls between two events."""

    def __init__(self, clock: Clock):
        self.clock = clock

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.before = self.clock.now()

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.clock.add("update", self.clock.now() - self.before)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == WARM_UP_STEPS:
            self.clock.restart()
        elif state.global_step == args.max_steps:
            self.total, self.seconds = self.clock.read()
