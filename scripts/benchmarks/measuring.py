"""Measurements in a process of their own, beside other work, and by phase of training; and the pipeline to measure."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import datasets
import psutil
import torch
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_own_process(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call a function in a fresh process, so that neither memory nor caches of other calls count.

    Args:
        function: it, its arguments and its result must be picklable. `datasets` prints nothing there.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_quieten) as process:
        return process.submit(function, *args, **kwargs).result()


@contextmanager
def meanwhile(step: Callable[[], object], pause_seconds: float = 0.0) -> Iterator[None]:
    """Call `step` again and again in a thread of its own until the block ends. Raises what `step` raises, at the end."""
    ended, failed = threading.Event(), list[BaseException]()

    def repeat() -> None:
        try:
            while not ended.is_set():
                step()
                ended.wait(pause_seconds)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]


def load_pipeline(folder: str | Path, device: str | torch.device | None = None) -> AgeGenderPipeline:
    """The pipeline with the model in a folder, or at a Hub id, in single precision."""
    return AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(folder, dtype=torch.float32),
        image_processor=AutoImageProcessor.from_pretrained(folder),
        device=device,
    )


def peak_memory_mib() -> float:
    """Peak resident memory of this process; Linux only."""
    return memory_mib("VmHWM", "self")


def memory_mib(field: str, process: int | str) -> float:
    """A size in /proc/PROCESS/status, such as VmRSS, in MiB; Linux only."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def process_tree(pid: int | None = None) -> list[psutil.Process]:
    """A process, this one by default, and those below it that live; any of them may end at any time."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds_of_tree(pid: int | None = None) -> float:
    """Of `process_tree`; those that have ended are counted by the ones that waited for them."""
    total = 0.0
    for process in process_tree(pid):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has ended meanwhile
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _quieten() -> None:
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()  # it would warn that a transform with a clock cannot be hashed


PHASES = ("decode", "transforms", "wait", "forward", "backward", "update")


class Clock:
    """Seconds by phase, of this process and of the data loader's workers."""

    def __init__(self, cpu_time: bool, waits_for_gpu: bool = True):
        """
        Args:
            cpu_time: count processor time of this process, not the time of day.
            waits_for_gpu: wait after each phase, to time it alone; else only at the end.
        """
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
        """Seconds since the restart: in all, and by phase."""
        wait_for_gpu()
        return self.now() - self._started, {name: seconds.value for name, seconds in self._seconds.items()}

    def now(self) -> float:
        if self._waits_for_gpu:
            wait_for_gpu()
        return self._read()


def wait_for_gpu() -> None:
    if torch.cuda.is_initialized():  # never so in a worker
        torch.cuda.synchronize()
