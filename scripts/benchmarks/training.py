"""How fast this trainer trains, beside the plain transformers image-classification example, and where the time goes.

    python -m scripts.benchmarks.training                             # made-up JPEGs of 200 x 200, ViT-Tiny at 112 pixels
    python -m scripts.benchmarks.training --dataset UTKFace.tar.gz --workers 4
    python -m scripts.benchmarks.training --backbone vit_base --image_size 224 --batch_size 128 --workers 8      # on a GPU

Both train the same backbone on the same pictures in batches of the same size. The example decodes each JPEG anew every
time it is seen, crops, mirrors and normalises it by itself with Pillow, and learns one label in fp32. This trainer
decodes once, before training, then moves, recolours, blurs, hides and normalises whole batches on the device, and
learns both labels in bf16. Each in the other's precision as well shows what the precision is worth and what the data is.

A stream, which decodes as it goes, is trained on a tenth of the pictures and on all of them: its memory should not grow.
It has no workers, whatever --workers says, so that all of its memory is in one process. Every measurement has a process
of its own, so that its peak memory is its own. All are measured in turn, `--rounds` times over, because machines are
faster at some times than at others: the table has each one's median round, and between which rates the others lay, and
its ratio is the median of those within a round. On a GPU the stages are told apart by waiting for each to end, which
makes the rates lower than they are in training; there two more rows, of which the first is the other's reference, are not
waited for: their rates are what training reaches. On a machine that others use too, `--cpu_time` counts the time that
the process had on its core; pin it there: `OMP_NUM_THREADS=1 taskset -c 1 python`.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from datasets import Image as ImageFeature
from PIL import Image
from tqdm import tqdm
from transformers import (
    PrinterCallback,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel
from scripts.benchmarks.example_transforms import MEAN, STD, ExampleTransform, collate_example
from scripts.benchmarks.measuring import PHASES, WARM_UP_STEPS, Clock, StepTimes, Timed, in_own_process, peak_memory_mib
from trainer.arguments import RunArguments
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces, stream_without_pauses
from trainer.data.preparation import write_parquet
from trainer.data.transforms import AugmentationArguments, BatchTransform, collate_faces, decode_faces
from trainer.devices import check_no_gpu_is_idle, keep_freed_memory
from trainer.trainer import AgeGenderTrainer


BACKBONES = {
    "vit_tiny": {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
    "vit_base": {},  # what ViTConfig describes unless told otherwise
}


@dataclass(frozen=True)
class Arm:
    """One measurement: whose way, in which precision, on which data."""

    name: str
    data: Path
    backbone: str
    image_size: int
    batch_size: int
    steps: int  # timed ones; WARM_UP_STEPS go before them
    workers: int
    example: bool = False
    bf16: bool = True
    use_cpu: bool = False
    streaming: bool = False
    torch_compile: bool = False
    growing: bool = False
    cpu_time: bool = False
    waits_for_gpu: bool = True  # after each stage, to tell them apart


@dataclass(frozen=True)
class Measurement:
    """`milliseconds` of each phase a picture, `decode_once` before training; memory in MiB."""

    pictures_per_second: float
    milliseconds: dict[str, float]
    decode_once: float
    peak_memory: float
    peak_gpu_memory: float


class TimedExample(Timed, Trainer):
    """The Trainer as the example uses it."""


class TimedTrainer(Timed, AgeGenderTrainer):
    """The Trainer as this repository uses it."""


class TimedTransform(BatchTransform):
    """The batched transform by the same clock."""

    clock: Clock

    def forward(self, *args, **kwargs):
        with self.clock.phase("transforms"):
            return super().forward(*args, **kwargs)


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
    if arm.workers == 0:  # else the workers' time is their own, and this process waits for what they are late with
        seconds["wait"] -= seconds["decode"] + (seconds["transforms"] if arm.example else 0)
    return Measurement(
        pictures_per_second=pictures / times.total,
        milliseconds={name: 1000 * spent / pictures for name, spent in seconds.items()},
        decode_once=1000 * decode_once,
        peak_memory=peak_memory_mib(),
        peak_gpu_memory=torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0,
    )


def build_trainer(arm: Arm, folder: str, clock: Clock) -> tuple[Trainer, float]:
    """The trainer of `arm` with its training faces, and how many seconds a face took to be decoded before."""
    faces = load_faces(DataArguments(str(arm.data), cache_dir=folder, streaming=arm.streaming), seed=0)
    faces = type(faces)(train=faces["train"])
    if arm.example:
        return _example_trainer(arm, folder, faces, clock), 0.0
    start = clock.now()
    decoded = decode_faces(faces, arm.image_size, arm.image_size * 8 // 7)  # 128 for 112, as the recipe keeps them
    decode_once = 0.0 if arm.streaming else (clock.now() - start) / len(faces["train"])
    return _trainer(arm, folder, decoded, clock), decode_once


def _training_arguments(arm: Arm, folder: str) -> TrainingArguments:
    kind = TrainingArguments if arm.example else RunArguments
    return kind(
        output_dir=folder,
        per_device_train_batch_size=arm.batch_size,
        max_steps=WARM_UP_STEPS + arm.steps,
        bf16=arm.bf16,
        use_cpu=arm.use_cpu,
        torch_compile=arm.torch_compile,
        dataloader_num_workers=arm.workers,
        dataloader_persistent_workers=arm.workers > 0,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def _backbone_config(arm: Arm) -> ViTConfig:
    return ViTConfig(image_size=arm.image_size, patch_size=16, **BACKBONES[arm.backbone])


def _example_trainer(arm: Arm, folder: str, faces: DatasetDict, clock: Clock) -> Trainer:
    config = _backbone_config(arm)
    age_ranges = AgeGenderConfig(backbone_config=config).age_ranges
    config.num_labels = len(age_ranges)
    train = faces["train"].cast_column("image", ImageFeature(decode=False))
    train.set_transform(ExampleTransform(arm.image_size, [low for low, _ in age_ranges], clock))
    TimedExample.clock = clock
    return TimedExample(
        model=ViTForImageClassification(config),
        args=_training_arguments(arm, folder),
        train_dataset=train,
        data_collator=collate_example,
    )


def _trainer(arm: Arm, folder: str, decoded: DatasetDict, clock: Clock) -> Trainer:
    transform = TimedTransform(arm.image_size, MEAN, STD, AugmentationArguments())
    TimedTrainer.clock = transform.clock = clock
    return TimedTrainer(
        model=AgeGenderModel(AgeGenderConfig(backbone_config=_backbone_config(arm), image_size=arm.image_size)),
        args=_training_arguments(arm, folder),
        train_dataset=decoded["train"],
        data_collator=collate_faces,
        batch_transform=transform,
        train_resolutions=[arm.image_size * share // 7 for share in (4, 6, 7)] if arm.growing else (),
    )


def write_pictures(folder: Path, count: int) -> Path:
    """Fill `folder` with made-up JPEGs of 200 x 200 pixels, about as large as UTKFace's and named in its way."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        grids = [Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (4, 24)]
        shapes = Image.blend(*(grid.resize((200, 200)) for grid in grids), 0.4)
        pixels = np.clip(np.asarray(shapes) + generator.normal(0, 6, (200, 200, 1)), 0, 255).astype(np.uint8)
        name = f"{generator.integers(1, 90)}_{generator.integers(0, 2)}_0_2017010912{index:07d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=90)
    return folder


def prepare(dataset: str | None, pictures: int, folder: Path) -> dict[Path, int]:
    """Clean, group and split once for all arms: a tenth of the set and the whole, as parquet, with their training faces."""
    if dataset is None:
        dataset, pictures = str(write_pictures(folder / "pictures", pictures)), None
    faces = load_faces(DataArguments(dataset, max_samples=pictures), seed=0)
    tenth = DatasetDict({name: rows.select(range(-(-len(rows) // 10))) for name, rows in faces.items()})
    for splits, name in ((tenth, "tenth"), (faces, "whole")):
        write_parquet(splits, folder / name / "data", shard_size=len(tenth["train"]))  # a larger set has more files
    return {folder / "tenth": len(tenth["train"]), folder / "whole": len(faces["train"])}


def report(arm: Arm, rounds: Sequence[Measurement], references: Sequence[Measurement]) -> str:
    """One line: the median round of `arm`, beside the reference that was measured in the same round."""
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
    try:
        main()
    except ValueError as error:
        sys.exit(f"{type(error).__name__}: {error}")
