"""How fast scripts.predict scores, beside calling the pipeline picture by picture, and how much memory it needs.

    python -m scripts.benchmarks.predict                      # the model in model/, on all cores
    python -m scripts.benchmarks.predict --model outputs/run --workers 1 --onnx-files onnx/model_int8.onnx

Crops are scored as they are; photographs of 1280 x 720 pixels with one to three faces go through the detector. In each
round all ways score the same files, each in a process of its own, so that none profits from what another has loaded. On
a machine that is busy with other work, compare the CPU time.

    python -m scripts.benchmarks.predict --before ../earlier

compares the command of this checkout with that of an earlier one, each with the model that ships there: without the time for
one picture, which is that of the start, and with the peak memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as scripts.predict, for the processes that measure it

import torch

from model.errors import AgeGenderError
from scoring.output import Parts
from scoring.run import ScoringOptions, answer_schema, load_scorer, prepare_process, score_in_parts
from scripts.benchmarks.made_up_pictures import write_crops, write_photographs
from scripts.benchmarks.measuring import in_own_process, load_pipeline, peak_memory_mib
from scripts.command import errors_explained, with_dashes
from trainer.devices import choose_device, usable_cores


GROWTH = 10  # the set grows this many times to show how memory does


@dataclass(frozen=True)
class Way:
    """One way to score pictures. predict: as `scripts.predict` does, instead of picture by picture."""

    name: str
    predict: bool = True
    bf16: bool | None = None
    onnx_file: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Time for all pictures, without loading the model; peak memory of the process in MiB."""

    seconds: float
    cpu_seconds: float
    peak_memory: float


def measure(args: argparse.Namespace, way: Way, folder: Path, detect: bool) -> Measurement:
    """Score the pictures in `folder`, in a process that has done nothing else."""
    if way.predict:  # what `python -m scripts.predict` does
        options = ScoringOptions(
            [str(folder)],
            model=args.model,
            crops=not detect,
            onnx_file=way.onnx_file,
            bf16=way.bf16,
            batch_size=args.batch_size,
            workers=args.workers,
        )
        prepare_process(options)
        model, scorer = load_scorer(options)
        wall, cpu = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as output:
            parts = Parts(Path(output) / "faces.parquet", answer_schema(model, scorer))
            score_in_parts(scorer, options.open_sources(), parts, {}, part_size=options.part_size)
    else:
        pipe = load_pipeline(args.model, choose_device("auto"))
        wall, cpu = time.perf_counter(), time.process_time()
        for path in sorted(folder.iterdir()):
            pipe(str(path), detect=detect)
    return Measurement(time.perf_counter() - wall, time.process_time() - cpu, peak_memory_mib())


def measure_command(args: argparse.Namespace, checkout: Path, folder: Path, detect: bool) -> Measurement:
    """`python -m scripts.predict` in a checkout: the time for all pictures less that for one."""
    with tempfile.TemporaryDirectory() as output:

        def run(source: Path) -> Measurement:
            command = [sys.executable, "-m", "scripts.predict", str(source), "--model", args.model]
            command += ["--workers", str(args.workers), "--output", f"{output}/{source.name}.parquet"]
            wall = time.perf_counter()
            process = subprocess.Popen(command + ["--crops"] * (not detect), cwd=checkout, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)  # Popen would wait for it again
            if status:
                raise AgeGenderError(f"{' '.join(command)} failed in {checkout}; it says why above.")
            return Measurement(time.perf_counter() - wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

        one, every = run(min(folder.iterdir())), run(folder)
    return Measurement(every.seconds - one.seconds, every.cpu_seconds - one.cpu_seconds, every.peak_memory)


def compare_checkouts(args: argparse.Namespace, title: str, folder: Path, detect: bool) -> None:
    """Measure the command of both checkouts in turn and print the medians."""
    checkouts = {"before": args.before, "now": Path.cwd()}
    rounds = [
        [measure_command(args, checkout, folder, detect) for checkout in checkouts.values()] for _ in range(args.rounds)
    ]
    count = len(list(folder.iterdir())) - 1
    print(f"\n{count} {title}:{'pictures/s':>45}{'':>8}{'CPU ms a picture':>18}{'peak MiB':>10}")
    medians = [
        [statistics.median(values) for values in zip(*(vars(one).values() for one in results), strict=True)]
        for results in zip(*rounds, strict=True)
    ]
    for name, (wall, cpu, memory) in zip(checkouts, medians, strict=True):
        times, each = medians[0][0] / wall, 1000 * cpu / count
        print(f"  {name:<54}{count / wall:>10.1f} {times:>6.2f}x {each:>17.1f} {memory:>9.0f}", flush=True)


def compare(args: argparse.Namespace, title: str, folder: Path, detect: bool) -> None:
    """Measure all ways in each round and print their medians."""
    ways = [
        Way("picture by picture", predict=False),
        Way("scripts.predict --no-bf16", bf16=False),
        Way("scripts.predict --bf16", bf16=True),
        *(Way(f"scripts.predict --onnx-file {file}", onnx_file=file) for file in args.onnx_files),
    ]
    rounds = [[in_own_process(measure, args, way, folder, detect) for way in ways] for _ in range(args.rounds)]
    count = len(list(folder.iterdir()))
    print(f"\n{count} {title}:{'pictures/s':>45}{'':>8}{'CPU ms a picture':>18}")
    by_way = dict(zip(ways, zip(*rounds, strict=True), strict=True))
    reference = statistics.median(result.seconds for result in by_way[ways[0]])
    for way, results in by_way.items():
        wall = statistics.median(result.seconds for result in results)
        cpu = statistics.median(result.cpu_seconds for result in results)
        print(f"  {way.name:<54}{count / wall:>10.1f}{reference / wall:>7.2f}x{1000 * cpu / count:>18.1f}", flush=True)


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="model", help="a model folder or a Hub id")
    parser.add_argument("--crops", type=int, default=300, help="how many")
    parser.add_argument("--photographs", type=int, default=60, help="how many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, help="default: as scripts.predict")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--onnx-files", nargs="+", default=[], metavar="FILE", help="of the model, to compare with")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout of this repository")
    return parser.parse_args(with_dashes(argv))


def main(args: argparse.Namespace) -> None:
    device = choose_device("auto").type.upper()
    print(
        f"{args.model} on {device}: {usable_cores()} cores, "
        f"{torch.get_num_threads()} threads for the model, {args.workers} for decoding and detection, "
        f"batches of {args.batch_size or 'the usual number of'} faces"
    )
    with tempfile.TemporaryDirectory() as work:
        crops = write_crops(Path(work, "crops"), args.crops)
        photographs = write_photographs(Path(work, "photographs"), args.photographs)
        if args.before:
            compare_checkouts(args, "crops", crops, detect=False)
            compare_checkouts(args, "photographs of 1280 x 720", photographs, detect=True)
            return
        compare(args, "crops", crops, detect=False)
        compare(args, "photographs of 1280 x 720", photographs, detect=True)
        many_crops = write_crops(Path(work, "many_crops"), GROWTH * args.crops)
        many_photographs = write_photographs(Path(work, "many_photographs"), GROWTH * args.photographs)
        print("\nPeak memory of scripts.predict as the set grows:")
        for folder, detect in ((crops, False), (many_crops, False), (photographs, True), (many_photographs, True)):
            peak = in_own_process(measure, args, Way("scripts.predict"), folder, detect).peak_memory
            kind = "photographs" if detect else "crops"
            print(f"  {len(list(folder.iterdir())):>6} {kind}: {peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    with errors_explained():
        main(read_arguments(sys.argv[1:]))
