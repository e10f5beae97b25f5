"""How `scripts.predict --ray` grows with the number of workers, what it costs beside one machine's own scorer, and its memory.

    python -m scripts.benchmarks.scale                                # the model in model/, with 1 and 2 workers
    python -m scripts.benchmarks.scale --growth 10000 100000          # and the memory as the input grows

Each way scores the same files in a process of its own, after a few that start the workers. A worker is a CPU of a cluster on
this machine; with N workers all processes, Ray's own among them, are bound to N cores, and so is one machine's own scorer
beside them. A run of one picture tells what a start takes, such as loading the model: that is printed beside the rates, and
taken off. CPU time is that of all processes; on a machine that is busy with other work, compare that.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as scripts.predict, for the processes that measure it

import psutil

from scoring.run import ScoringOptions, prepare_process, score_to_file
from scripts.benchmarks.made_up_pictures import write_crops, write_photographs
from scripts.benchmarks.measuring import cpu_seconds_of_tree, in_own_process, meanwhile, process_tree
from scripts.command import errors_explained, with_dashes
from trainer.devices import usable_cores


@dataclass(frozen=True)
class Measurement:
    """Of all processes together, for all pictures but one. start_seconds: of a run of one picture.

    memory_mib: the largest sum of what each has for itself, without Ray's shared store.
    """

    start_seconds: float
    seconds: float
    cpu_seconds: float
    memory_mib: float


def measure(options: ScoringOptions, warm_up: Path) -> Measurement:
    """Score a few pictures, then one, then those of `options`; on a cluster of `options.workers` CPUs if it names one."""
    with redirect_stdout(sys.stderr):
        if not options.ray:
            prepare_process(options)
            return _timed_after(warm_up, score_to_file, options)
        from cluster.machines import cluster  # Ray is only there in this process
        from scoring.cluster.run import score_on_cluster

        with cluster(options.ray, cpus=options.workers):
            return _timed_after(warm_up, score_on_cluster, options)


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
        largest = max(largest, sum(_own_memory(process) for process in process_tree()))

    before, started = cpu_seconds_of_tree(), time.perf_counter()
    with meanwhile(look, pause_seconds=1.0):
        score(options)
    return Measurement(0.0, time.perf_counter() - started, cpu_seconds_of_tree() - before, largest / 2**20)


def _own_memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().uss
    except psutil.Error:  # it has ended meanwhile
        return 0


@contextmanager
def bound_to(cores: int) -> Iterator[None]:
    """Bind the processes that this thread starts to so many cores; where a system cannot (macOS, Windows), to none."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="model", help="a model folder or a Hub id")
    parser.add_argument("--crops", type=int, default=2000, help="how many")
    parser.add_argument("--photographs", type=int, default=200, help="how many")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--growth", type=int, nargs="*", default=[], metavar="CROPS", help="to show how memory grows")
    parser.add_argument("--part-size", type=int, default=100)
    return parser.parse_args(with_dashes(argv))


def main(args: argparse.Namespace) -> None:
    print(f"{args.model}: {usable_cores()} cores, parts of {args.part_size} pictures")
    with tempfile.TemporaryDirectory() as work:
        few = write_crops(Path(work, "few"), 2 * args.part_size)
        crops = write_crops(Path(work, "crops"), args.crops)
        photographs = write_photographs(Path(work, "photographs"), args.photographs)
        for title, folder in (("crops", crops), ("photographs of 1280 x 720", photographs)):
            count = len(list(folder.iterdir()))
            print(f"\n{f'{count:,} {title}':<34}{'cores':>6}{'start, s':>10}{'pictures/s':>12}{'CPU ms a picture':>18}")
            for workers, ray in product(args.workers, (None, "local")):
                options = _options(args, folder, f"{folder}-{workers}-{ray}", crops=folder == crops)
                if ray:
                    options = replace(options, ray=ray, workers=workers)
                with bound_to(workers):
                    result = in_own_process(measure, options, few)
                name = f"  --ray, --workers {workers}" if ray else "  one machine's own scorer"
                rate, cpu = (count - 1) / result.seconds, 1000 * result.cpu_seconds / (count - 1)
                print(f"{name:<34}{workers:>6}{result.start_seconds:>10.1f}{rate:>12.1f}{cpu:>18.1f}", flush=True)
        for count in args.growth:
            listed, crop = Path(work, f"{count}.txt"), next(crops.iterdir())
            listed.write_text(f"{crop}\n" * count)
            options = _options(args, listed, f"{listed}-out", crops=True)
            result = in_own_process(measure, replace(options, ray="local", workers=args.workers[-1]), few)
            print(f"{count:>9,} crops with --workers {args.workers[-1]}: {result.memory_mib:,.0f} MiB", flush=True)


def _options(args: argparse.Namespace, source: Path, output: str, *, crops: bool) -> ScoringOptions:
    return ScoringOptions([str(source)], f"{output}.parquet", args.model, crops=crops, part_size=args.part_size)


if __name__ == "__main__":
    with errors_explained():
        main(read_arguments(sys.argv[1:]))
