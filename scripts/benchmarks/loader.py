"""How many pictures a second the data loader delivers: a GPU that trains on fewer never waits for data.

    python -m scripts.benchmarks.loader                                           # made-up pictures, for ViT-B at 224 pixels
    python -m scripts.benchmarks.loader --dataset UTKFace.tar.gz --image_size 96 --workers 0 2 4

This trainer's loader reads pixels that were decoded before training from the cache, and stacks them into batches of
bytes; the device augments them. The loader of the transformers example decodes and crops each picture in every epoch.
Without workers the training process loads the data itself. Choose the smallest `--dataloader_num_workers` that delivers
enough. Each row is measured in a process of its own.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from scripts.benchmarks.measuring import Clock, in_own_process
from scripts.benchmarks.trainers import Arm, build_trainer, prepare
from scripts.command import errors_explained
from trainer.devices import keep_freed_memory, usable_cores


def warm_up_batches(workers: int) -> int:
    """Number of first batches not to count: workers prepare them ahead."""
    return 2 + 2 * workers


def delivered(arm: Arm) -> float:
    """Pictures a second where nothing is trained, without the first batches."""
    if not arm.example:
        keep_freed_memory()  # as trainer.train does
    with tempfile.TemporaryDirectory() as folder:
        trainer, _ = build_trainer(arm, folder, Clock(cpu_time=False))
        batches = iter(trainer.get_train_dataloader())
        for _ in range(warm_up_batches(arm.workers)):
            next(batches)
        start = time.perf_counter()
        for _ in range(arm.steps):
            next(batches)
        return arm.steps * arm.batch_size / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="as of trainer.train; made-up pictures unless given")
    parser.add_argument("--pictures", type=int, default=4000, help="how many")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, usable_cores()], help="one row each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sets = in_own_process(prepare, args.dataset, args.pictures, Path(folder))
        data, count = list(sets.items())[-1]
        steps = count // args.batch_size - warm_up_batches(max(args.workers))
        if steps < 1:
            parser.error(f"{count} pictures to train on are too few for batches of {args.batch_size}")
        print(f"{args.image_size} px, batches of {args.batch_size}, {usable_cores()} cores: pictures a second")
        print(f"{'workers':>8}{'this trainer':>16}{'the example':>16}")
        for workers in args.workers:
            shape = ("vit_tiny", args.image_size, args.batch_size, steps, workers)  # the backbone is not used
            rates = [
                in_own_process(delivered, Arm("loader", data, *shape, use_cpu=True, example=example))
                for example in tqdm((False, True), f"{workers} workers", leave=False)
            ]
            print(f"{workers:>8}{rates[0]:>16,.0f}{rates[1]:>16,.0f}", flush=True)


if __name__ == "__main__":
    with errors_explained():
        main()
