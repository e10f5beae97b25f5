"""How fast scripts.predict scores, beside calling the pipeline picture by picture, and how much memory it takes.

    python -m scripts.benchmark_predict                      # the model in model/, on all cores
    python -m scripts.benchmark_predict --model outputs/run --workers 1 --onnx-files onnx/model_int8.onnx

Crops are scored as they are; photographs of 1280 x 720 pixels with one to three faces go through the detector. Both ways
take turns on the same files. The CPU time is what tells on a machine that is busy with something else.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from scoring.file_sources import Folder
from scoring.parts import Parts
from scoring.rows import table_schema
from scoring.run import score_to_file
from scoring.scorer import Scorer
from scripts.own_process import in_own_process, peak_memory_mib
from trainer.devices import needs_cpu, usable_cores


PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
PHOTO_WH = (1280, 720)
GROWTH = 10  # the set grows this many times to show that memory does not


def write_crops(folder: Path, count: int) -> Path:
    """The portrait's face at 200 x 200 pixels, each framed a little differently."""
    portrait = Image.open(PORTRAIT).convert("RGB")
    for index, (x, y) in enumerate(np.random.default_rng(0).integers(-6, 7, (count, 2))):
        crop = portrait.crop((160 + x, 55 + y, 290 + x, 185 + y)).resize((200, 200))
        _save(crop, folder / f"{index:06d}.jpg")
    return folder


def write_photographs(folder: Path, count: int) -> Path:
    """The portrait one to three times, at sizes from 240 to 480 pixels, on a grainy canvas of 1280 x 720."""
    random, portrait = np.random.default_rng(0), Image.open(PORTRAIT).convert("RGB")
    for index in range(count):
        grain = random.integers(90, 160, (PHOTO_WH[1] // 4, PHOTO_WH[0] // 4, 3), dtype=np.uint8)
        photo = Image.fromarray(grain).resize(PHOTO_WH, Image.Resampling.BICUBIC)
        for place in range(1 + index % 3):
            side = int(random.integers(240, 410))
            photo.paste(portrait.resize((side, side)), (420 * place, int(random.integers(0, PHOTO_WH[1] - side))))
        _save(photo, folder / f"{index:06d}.jpg")
    return folder


def _save(image: Image.Image, path: Path) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


class Benchmark:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.state = PartialState(cpu=needs_cpu("auto"))
        self.model = AgeGenderModel.from_pretrained(args.model)
        self.processor = AutoImageProcessor.from_pretrained(args.model)

    def picture_by_picture(self, folder: Path, detect: bool) -> None:
        cv2.setNumThreads(-1)  # OpenCV's own choice, as where nobody sets it; `Scorer` sets 1
        pipe = AgeGenderPipeline(model=self.model, image_processor=self.processor, device=self.state.device)
        for path in sorted(folder.iterdir()):
            pipe(str(path), detect=detect)

    def predict(
        self, folder: Path, detect: bool, *, model: AgeGenderModel | None = None, onnx_file: str | None = None
    ) -> None:
        """What `python -m scripts.predict` does after it has loaded the model."""
        scorer = Scorer(
            model or self.model,
            self.processor,
            device=self.state.device,
            onnx_file=onnx_file,
            batch_size=self.args.batch_size,
            workers=self.args.workers,
            detect=detect,
        )
        config = self.model.config
        with tempfile.TemporaryDirectory() as output:
            parts = Parts(Path(output) / "faces.parquet", table_schema(config.age_range_labels, config.gender_names))
            score_to_file(scorer, [Folder(folder)], parts, self.state, {}, part_size=1000)

    def compare(self, title: str, folder: Path, detect: bool) -> None:
        """All ways in turns; medians over the rounds."""
        count = len(list(folder.iterdir()))
        ways: dict[str, Callable[[Path, bool], None]] = {
            "picture by picture": self.picture_by_picture,
            "scripts.predict": self.predict,
            "scripts.predict --bf16": partial(
                self.predict, model=AgeGenderModel.from_pretrained(self.args.model, dtype=torch.bfloat16)
            ),
        }
        for file in self.args.onnx_files:
            ways[f"scripts.predict --onnx-file {file}"] = partial(self.predict, onnx_file=file)
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(self.args.rounds):
            for name, way in ways.items():
                wall, cpu = time.perf_counter(), time.process_time()
                way(folder, detect)
                figures[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        print(f"\n{count} {title}:{'pictures/s':>45}{'':>8}{'CPU ms a picture':>18}")
        slowest = None
        for name, rounds in figures.items():
            wall, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
            slowest = slowest or wall
            print(f"  {name:<54}{count / wall:>10.1f}{slowest / wall:>7.2f}x{1000 * cpu / count:>18.1f}")


def peak_memory_of_predict(args: argparse.Namespace, folder: Path, detect: bool) -> float:
    """MiB; for a process that does nothing else."""
    Benchmark(args).predict(folder, detect)
    return peak_memory_mib()


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="model", help="a model folder or a Hub id")
    parser.add_argument("--crops", type=int, default=300, help="how many")
    parser.add_argument("--photographs", type=int, default=60, help="how many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", "--batch_size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument(
        "--onnx-files", "--onnx_files", nargs="+", default=[], metavar="FILE", help="of the model, to compare with"
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    benchmark = Benchmark(args)
    print(
        f"{args.model} on {benchmark.state.device}: {usable_cores()} cores, "
        f"{torch.get_num_threads()} threads for the model, {args.workers} for decoding and detection, "
        f"batches of {args.batch_size} faces"
    )
    with tempfile.TemporaryDirectory() as work:
        crops = write_crops(Path(work, "crops"), args.crops)
        photographs = write_photographs(Path(work, "photographs"), args.photographs)
        benchmark.compare("crops", crops, detect=False)
        benchmark.compare("photographs of 1280 x 720", photographs, detect=True)
        many_crops = write_crops(Path(work, "many_crops"), GROWTH * args.crops)
        many_photographs = write_photographs(Path(work, "many_photographs"), GROWTH * args.photographs)
        print("\nPeak memory of scripts.predict as the set grows, each time in a fresh process:")
        for folder, detect in ((crops, False), (many_crops, False), (photographs, True), (many_photographs, True)):
            peak = in_own_process(peak_memory_of_predict, args, folder, detect)
            print(
                f"  {len(list(folder.iterdir())):>6} {'photographs' if detect else 'crops'}: {peak:.0f} MiB", flush=True
            )


if __name__ == "__main__":
    main(read_arguments())
