"""Age and gender by appearance for any number of pictures: one row a face.

    python -m scripts.predict photos/ --output faces.parquet
    python -m scripts.predict "photos/*.jpg" album.zip list.txt shards.parquet user/dataset --output faces.csv
    python -m scripts.predict film.mp4 --frames-per-second 2 --output faces.parquet
    accelerate launch --config_file trainer/accelerate/cpu.yaml -m scripts.predict photos/ --output faces.parquet

Each row holds the picture's place in the input, its file and the pipeline's answer for one face. A picture without a
face has one row that says so; one that cannot be read has one row with `error`, and the command goes on with the next.
`face` numbers the faces of a picture from 0, from left to right; the demo's CSV, whose column has the same name, numbers
them from 1. `picture` numbers the pictures of the input from 0.

If interrupted, run the same command again to resume: what is done lies in OUTPUT.parts, which becomes the output at the
end. Under `accelerate launch`, with the configuration for the hardware in trainer/accelerate, the processes share the
pictures out (on several machines: into a folder that all see).
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm.auto import tqdm
from transformers import AutoImageProcessor

from model.configuration_age_gender import RANGE_SETS, age_range_label
from model.modeling_age_gender import AgeGenderModel
from scoring.inputs import EXPECTED, all_entries, open_sources
from scoring.output import OUTPUT_SUFFIXES, MissingPartsError, Parts, answer_rows, table_schema, write_json_lines
from scoring.run import Plan, digest, score_to_file
from scoring.scorer import Scorer, read_entries
from trainer.devices import needs_cpu


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=EXPECTED)
    parser.add_argument("--output", type=Path, help="a new .parquet, .csv or .jsonl; without it JSON lines are printed")
    parser.add_argument("--model", default="model", help="folder or Hub id of the model")
    parser.add_argument("--model-revision", "--model_revision", help="branch, tag or commit of a Hub id")
    parser.add_argument("--crops", action="store_true", help="the pictures are face crops: do not look for faces")
    parser.add_argument("--detector", choices=("yunet", "haar"), help="yunet, unless its file is missing")
    parser.add_argument(
        "--age-ranges", "--age_ranges", help=f"'0-17, 18+', or one of: {', '.join(RANGE_SETS)}; else the model's own"
    )
    parser.add_argument(
        "--image-column", "--image_column", default="image", help="of a parquet file or a dataset on the Hub"
    )
    parser.add_argument(
        "--dataset-revision", "--dataset_revision", help="branch, tag or commit of a dataset on the Hub"
    )
    parser.add_argument(
        "--frames-per-second",
        "--frames_per_second",
        type=float,
        default=1.0,
        help="frames looked at in a video (default 1)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    parser.add_argument(
        "--onnx-file", "--onnx_file", help="compute with this file of the model on onnxruntime: onnx/model_int8.onnx"
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster where the hardware has it")
    parser.add_argument(
        "--batch-size", "--batch_size", type=int, default=64, help="faces that go through the model together"
    )
    parser.add_argument("--workers", type=int, help="threads that decode and detect; as many as cores unless given")
    parser.add_argument(
        "--part-size",
        "--part_size",
        type=int,
        default=1000,
        help="pictures in a part: an interruption costs each process at most one",
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    if args.output and args.output.suffix not in OUTPUT_SUFFIXES:
        raise ValueError(f"Expected --output to end in {', '.join(OUTPUT_SUFFIXES)}; got {args.output}.")
    workers = 1 if args.workers is None else args.workers
    if min(args.batch_size, args.part_size, workers) < 1:
        raise ValueError("Expected --batch-size, --part-size and --workers of 1 or more.")
    if args.bf16 and args.onnx_file:
        raise ValueError("Expected --bf16 or --onnx-file; got both. An ONNX file computes in its own numbers.")
    sources = open_sources(
        args.inputs,
        image_column=args.image_column,
        revision=args.dataset_revision,
        frames_per_second=args.frames_per_second,
        output=args.output,
    )
    # The first process to finish waits for the last one, however many days that takes.
    state = PartialState(cpu=needs_cpu(args.device), timeout=timedelta(weeks=4))
    model = AgeGenderModel.from_pretrained(
        args.model, revision=args.model_revision, dtype=torch.bfloat16 if args.bf16 else torch.float32
    )
    options = {"detect": not args.crops, "detector": args.detector, "age_ranges": args.age_ranges}
    scorer = Scorer(
        model,
        AutoImageProcessor.from_pretrained(args.model, revision=args.model_revision),
        device=state.device,
        revision=args.model_revision,
        onnx_file=args.onnx_file,
        batch_size=args.batch_size,
        workers=args.workers,
        **options,
    )
    if args.output is None:
        if state.num_processes > 1:
            raise ValueError("Several processes need a file to write to: add --output.")
        pictures = read_entries(all_entries(sources))
        progress = tqdm(scorer.score(pictures), total=Plan.of(sources).pictures, unit=" pictures")
        write_json_lines((row for scored in progress for row in answer_rows(scored)), sys.stdout)
        return

    ranges = scorer.age_ranges
    labels = [age_range_label(low, high, model.config.max_age) for low, high in ranges]
    parts = Parts(args.output, table_schema(labels, model.config.gender_names))
    finished = parts.is_finished()
    state.wait_for_everyone()  # all have looked before one clears up
    if finished:
        if state.is_main_process:
            parts.clear()
            print(f"{args.output} was finished already.", file=sys.stderr)
        return
    if state.is_main_process and args.output.exists():
        raise FileExistsError(f"{args.output} exists already. Choose another --output, or remove it.")
    computing = {"bf16": args.bf16, "onnx_file": scorer.onnx_sha256}
    settings = {"model": digest(model), "configuration": model.config.to_json_string()} | computing | options
    counts = score_to_file(scorer, sources, parts, state, settings, part_size=args.part_size)
    if counts:
        print(
            f"{args.output}: {counts['faces']:,} faces in {counts['pictures']:,} pictures, "
            f"{counts['errors']:,} of which could not be used."
        )


if __name__ == "__main__":
    try:
        main(read_arguments())
    except (ValueError, OSError, ImportError, MissingPartsError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
