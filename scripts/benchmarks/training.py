"""How fast this trainer trains, beside the image-classification example of transformers, and where the time goes.

    python -m scripts.benchmarks.training                             # made-up JPEGs of 200 x 200, ViT-Tiny at 112 pixels
    python -m scripts.benchmarks.training --dataset UTKFace.tar.gz --workers 4
    python -m scripts.benchmarks.training --backbone vit_base --image_size 224 --batch_size 128 --workers 8      # on a GPU

Both train the same backbone on the same pictures in batches of the same size. The example decodes each JPEG in every
epoch, crops, flips and normalises it with Pillow, and learns one label in fp32. This trainer decodes once, before
training, augments and normalises whole batches on the device, and learns both labels in bf16. Each also runs in the
other's precision, which separates what the precision gives from what the data path gives.

A stream, which decodes as it goes, is trained on a tenth of the pictures and on all of them: its memory should not grow.
It has no workers, whatever --workers says, so that one process holds all of its memory. Each measurement has a process
of its own, so that peak memory is its own. Machines are not equally fast at all times: all arms are measured in turn in
each of `--rounds` rounds. The table shows the median round of each, its lowest and highest rate, and the median of the
ratios within a round.

On a GPU, timing a phase alone means waiting for the GPU after it, which makes the rates lower than in training. Two more
rows do not wait (the first is the reference of the second): their rates are what training reaches. On a machine that
others use too, `--cpu_time` counts processor time: pin the process with `OMP_NUM_THREADS=1 taskset -c 1 python`.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PrinterCallback, set_seed

from scripts.benchmarks.measuring import PHASES, Clock, in_own_process, peak_memory_mib
from scripts.benchmarks.trainers import BACKBONES, WARM_UP_STEPS, Arm, StepTimes, build_trainer, prepare
from scripts.command import errors_explained
from trainer.data.loading import stream_without_pauses
from trainer.devices import check_no_gpu_is_idle, keep_freed_memory


@dataclass(frozen=True)
class Measurement:
    """Milliseconds a picture: of each phase, and of decoding before training. Memory in MiB."""

    pictures_per_second: float
    milliseconds: dict[str, float]
    decode_once: float
    peak_memory: float
    peak_gpu_memory: float


def measure(arm: Arm) -> Measurement:
    """Train for `arm.steps` steps, with a clock on every phase."""
    if arm.use_cpu and not arm.example:
        keep_freed_memory()  # as trainer.train does
    if arm.streaming:
        stream_without_pauses()  # as trainer.train does
    set_seed(0)
    clock = Clock(arm.cpu_time, arm.waits_for_gpu)
    with tempfile.TemporaryDirectory() as folder:
        trainer, decode_once = build_trainer(arm, folder, clock)
        trainer.remove_callback(PrinterCallback)
        times = StepTimes(clock)
        trainer.add_callback(times)
        trainer.train()
    seconds, pictures = times.seconds, arm.steps * arm.batch_size
    if arm.workers == 0:  # with workers, this process only waits where they are late
        seconds["wait"] -= seconds["decode"] + (seconds["transforms"] if arm.example else 0)
    return Measurement(
        pictures_per_second=pictures / times.total,
        milliseconds={name: 1000 * spent / pictures for name, spent in seconds.items()},
        decode_once=1000 * decode_once,
        peak_memory=peak_memory_mib(),
        peak_gpu_memory=torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0,
    )


def report(arm: Arm, rounds: Sequence[Measurement], references: Sequence[Measurement]) -> str:
    """One line of the table: the median round of `arm`; its ratio to the references of the same rounds."""
    rates = [result.pictures_per_second for result in rounds]
    result = sorted(rounds, key=lambda result: result.pictures_per_second)[len(rounds) // 2]
    ratio = statistics.median(
        rate / reference.pictures_per_second for rate, reference in zip(rates, references, strict=True)
    )
    phases = "".join(f"{result.milliseconds[name]:>12.2f}" for name in PHASES)
    gpu = f"{result.peak_gpu_memory:>9.0f}" if result.peak_gpu_memory else ""
    once, memory = f"{result.decode_once:>13.2f}", f"{result.peak_memory:>8.0f}"
    between = f"{min(rates):.0f}-{max(rates):.0f}"
    return f"{arm.name:<32}{result.pictures_per_second:>8.1f}{between:>9}{ratio:>7.2f}x{phases}{once}{memory}{gpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="as of trainer.train; made-up pictures unless given")
    parser.add_argument("--pictures", type=int, default=4000, help="how many")
    parser.add_argument("--backbone", choices=BACKBONES, default="vit_tiny")
    parser.add_argument("--image_size", type=int, default=112)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help=f"timed steps, after {WARM_UP_STEPS} to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn with the others")
    parser.add_argument("--workers", type=int, default=0, help="processes that load the data")
    parser.add_argument("--use_cpu", action="store_true", help="also where there is a GPU")
    parser.add_argument("--torch_compile", action="store_true", help="also measure a compiled model")
    parser.add_argument("--cpu_time", action="store_true", help="of one thread and no workers, instead of the clock's")
    args = parser.parse_args()
    if args.cpu_time and (args.workers or torch.get_num_threads() > 1):
        parser.error("--cpu_time counts one thread of one process: leave out --workers and set OMP_NUM_THREADS=1")

    use_cpu = args.use_cpu or not torch.cuda.is_available()
    check_no_gpu_is_idle("cpu" if use_cpu else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        sets = in_own_process(prepare, args.dataset, args.pictures, Path(folder))
        shape = (args.backbone, args.image_size, args.batch_size, args.steps, args.workers)
        ours = Arm("this trainer", Path(folder) / "whole", *shape, use_cpu=use_cpu, cpu_time=args.cpu_time)
        arms = [
            replace(ours, name="the example", example=True, bf16=False),
            replace(ours, name="the example in bf16", example=True),
            replace(ours, name="this trainer in fp32", bf16=False),
            ours,
            replace(ours, name="this trainer, growing pictures", growing=True),
        ]
        if not use_cpu:
            arms += [replace(arm, name=f"{arm.name}, not waited for", waits_for_gpu=False) for arm in (arms[0], ours)]
        if args.torch_compile:
            arms.append(replace(ours, name="this trainer, compiled", torch_compile=True))
        batch_size = min(args.batch_size, min(sets.values()) // (2 * WARM_UP_STEPS))
        stream = replace(ours, batch_size=batch_size, workers=0, streaming=True)  # workers' memory would be their own
        arms += [
            replace(stream, name=f"a stream of {count} pictures", data=data, steps=count // batch_size - WARM_UP_STEPS)
            for data, count in sets.items()
        ]

        device = "CPU" if use_cpu else torch.cuda.get_device_name()
        print(
            f"{args.backbone} at {args.image_size} px, batches of {args.batch_size}, {args.steps} steps, {args.workers} "
            f"workers, {device}, {torch.get_num_threads()} threads. Milliseconds a picture; peak memory in MiB."
        )
        columns = "".join(f"{name:>12}" for name in PHASES)
        gpu = "" if use_cpu else f"{'GPU MiB':>9}"
        print(f"{'':<32}{'pict./s':>8}{'between':>9}{'':>8}{columns}{'decode once':>13}{'MiB':>8}{gpu}")
        rounds = [
            [in_own_process(measure, arm) for arm in arms] for _ in tqdm(range(args.rounds), "Rounds", leave=False)
        ]
        by_arm = dict(zip(arms, zip(*rounds, strict=True), strict=True))
        for arm, results in by_arm.items():
            reference = next(other for other in arms if other.example and other.waits_for_gpu == arm.waits_for_gpu)
            print(report(arm, results, by_arm[reference]), flush=True)


if __name__ == "__main__":
    with errors_explained():
        main()
