"""How `scripts.predict --ray` grows with the number of workers, what it costs beside one machine's own scorer, and its memory.

    python -m scripts.benchmarks.scale                                # the model in model/, with 1 and 2 workers
    python -m scripts.benchmarks.scale --growth 10000 100000          # and the memory as the input grows

Each way scores the same files in a process of its own, after a few that start the workers. A worker is a CPU of a cluster on
this machine. A run of one picture tells what a start takes, such as loading the model: that is printed beside the rates, and
taken off. CPU time is that of all processes, Ray's own among them; on a machine that is busy with other work, compare that.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as scripts.predict, for the processes that measure it

import cv2
import psutil

from model.errors import AgeGenderError
from scoring.run import ScoringOptions, score_to_file
from scripts.benchmarks.made_up_pictures import write_crops, write_photographs
from scripts.benchmarks.measuring import in_own_process, meanwhile
from trainer.devices import choose_device, keep_freed_memory, usable_cores


@dataclass(frozen=True)
class Measurement:
    """Of all processes together, for all pictures but one. start_seconds: of a run of one picture.

    memory_mib: the largest sum of what each has for itself, without Ray's shared store.
    """

    start_seconds: float
    seconds: float
    cpu_seconds: float
    memory_mib: float


def measure(options: ScoringOptions, warm_up: Path, workers: int) -> Measurement:
    """Score a few pictures, then one, then those of `options`.

    Args:
        workers: CPUs of the cluster, 0 for the scorer of one machine.
    """
    with redirect_stdout(sys.stderr):
        if not workers:
            cv2.setNumThreads(1)
            if choose_device(options.device).type == "cpu":
                keep_freed_memory()
            return _timed_after(warm_up, score_to_file, options)
        from cluster.machines import cluster  # Ray is only there in this process
        from scoring.cluster.run import score_on_cluster

        with cluster("local", cpus=workers):
            return _timed_after(warm_up, score_on_cluster, replace(options, ray="local", workers=workers))


def _timed_after(warm_up: Path, score: Callable[[ScoringOptions], object], options: ScoringOptions) -> Measurement:
    output = options.output
    score(replace(options, inputs=[str(warm_up)], output=f"{output}-warm.parquet"))
    one = _timed(score, replace(options, inputs=[str(min(warm_up.iterdir()))], output=f"{output}-one.parquet"))
    every = _timed(score, options)
    return replace(
        every,
        start_seconds=one.seconds,
        seconds=every.seconds - one.seconds,
        cpu_seconds=every.cpu_seconds - one.cpu_seconds,
    )


def _timed(score: Callable[[ScoringOptions], object], options: ScoringOptions) -> Measurement:
    largest = 0.0

    def look() -> None:
        nonlocal largest
        largest = max(largest, sum(_own_memory(process) for process in _processes()))

    before, started = _cpu_seconds(), time.perf_counter()
    with meanwhile(look, pause_seconds=1.0):
        score(options)
    return Measurement(0.0, time.perf_counter() - started, _cpu_seconds() - before, largest / 2**20)


def _processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def _own_memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().uss
    except psutil.Error:  # it has ended meanwhile
        return 0


def _cpu_seconds() -> float:
    """Of the processes that live; those that have ended are counted by the ones that waited for them."""
    total = 0.0
    for process in _processes():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="model", help="a model folder or a Hub id")
    parser.add_argument("--crops", type=int, default=2000, help="how many")
    parser.add_argument("--photographs", type=int, default=200, help="how many")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--growth", type=int, nargs="*", default=[], metavar="CROPS", help="to show how memory grows")
    parser.add_argument("--part-size", "--part_size", type=int, default=100)
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    print(f"{args.model}: {usable_cores()} cores, parts of {args.part_size} pictures")
    with tempfile.TemporaryDirectory() as work:
        few = write_crops(Path(work, "few"), 2 * args.part_size)
        crops = write_crops(Path(work, "crops"), args.crops)
        photographs = write_photographs(Path(work, "photographs"), args.photographs)
        for title, folder in (("crops", crops), ("photographs of 1280 x 720", photographs)):
            count = len(list(folder.iterdir()))
            print(f"\n{count:,} {title}:{'start, s':>28}{'pictures/s':>14}{'CPU ms a picture':>20}")
            for workers in (0, *args.workers):
                options = _options(args, folder, f"{folder}-{workers}", crops=folder == crops)
                result = in_own_process(measure, options, few, workers)
                name = f"--ray, --workers {workers}" if workers else "one machine's own scorer"
                rate, cpu = (count - 1) / result.seconds, 1000 * result.cpu_seconds / (count - 1)
                print(f"  {name:<30}{result.start_seconds:>10.1f}{rate:>14.1f}{cpu:>20.1f}", flush=True)
        for count in args.growth:
            listed, crop = Path(work, f"{count}.txt"), next(crops.iterdir())
            listed.write_text(f"{crop}\n" * count)
            options = _options(args, listed, f"{listed}-out", crops=True)
            result = in_own_process(measure, options, few, args.workers[-1])
            print(f"{count:>9,} crops with --workers {args.workers[-1]}: {result.memory_mib:,.0f} MiB", flush=True)


def _options(args: argparse.Namespace, source: Path, output: str, *, crops: bool) -> ScoringOptions:
    return ScoringOptions([str(source)], f"{output}.parquet", args.model, crops=crops, part_size=args.part_size)


if __name__ == "__main__":
    try:
        main(read_arguments())
    except AgeGenderError as error:
        sys.exit(f"{type(error).__name__}: {error}")
