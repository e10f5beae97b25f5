"""Age and gender by appearance for pictures: one JSON line, or CSV row, a face.

    python -m scripts.predict photo.jpg folder/ --output faces.csv

Each line holds `file` and the pipeline's answer for one face. A picture without a face has one line without an answer;
a picture that cannot be read has one line with `error`, and the command goes on with the next.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from transformers import AutoImageProcessor

from model.configuration_age_gender import RANGE_SETS
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline


SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"}


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="+", help="pictures, http(s) URLs, or folders that are searched for pictures")
    parser.add_argument("--model", default="model", help="folder or Hub id of the model")
    parser.add_argument("--model-revision", help="branch, tag or commit of a Hub id")
    parser.add_argument("--output", type=Path, help="a new .jsonl or .csv file; JSON lines are printed without it")
    parser.add_argument("--crops", action="store_true", help="the pictures are face crops: do not look for faces")
    parser.add_argument("--detector", choices=("yunet", "haar"), help="yunet, unless its file is missing")
    parser.add_argument("--age-ranges", help=f"'0-17, 18+', or one of: {', '.join(RANGE_SETS)}; else the model's own")
    return parser.parse_args(argv)


def find_pictures(names: Iterable[str]) -> Iterator[str]:
    """Files and URLs as they are, folders as the pictures anywhere inside, sorted.

    Raises:
        ValueError: a folder without any picture.
        FileNotFoundError: nothing at a path.
    """
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise ValueError(f"Expected pictures in {path}, found none ({', '.join(sorted(SUFFIXES))}).")
            yield from inside
        elif name.startswith(("http://", "https://")) or path.is_file():
            yield name
        else:
            raise FileNotFoundError(f"Expected a picture, a folder or an http(s) URL; there is nothing at {name}.")


def predict_faces(pipe: AgeGenderPipeline, pictures: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One dict a face: `file`, then the pipeline's answer; `error` where a picture could not be used."""
    for picture in pictures:
        try:
            faces = pipe(picture)
        except (ValueError, OSError) as error:
            yield {"file": picture, "error": str(error)}
            continue
        for face in faces:
            yield {"file": picture, **face}
        if not faces:
            yield {"file": picture, "abstained": "No face was found."}


def write_json_lines(rows: Iterable[dict[str, Any]], file: IO[str]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()  # a long run can be watched, and what is done survives its end


def write_csv(rows: Iterable[dict[str, Any]], file: IO[str]) -> None:
    """One column a field; distributions only as their most probable answer and, for gender, its probability."""
    columns = ["file", "x0", "y0", "x1", "y1", "detection_score", "age", "age_low", "age_high", "age_range", "gender"]
    writer = csv.DictWriter(file, [*columns, "gender_probability", "abstained", "error"], extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        flat = dict(row)
        flat |= dict(zip(("x0", "y0", "x1", "y1"), row.get("box") or (), strict=False))
        flat |= dict(zip(("age_low", "age_high"), row.get("age_interval") or (), strict=False))
        if row.get("genders"):
            flat["gender_probability"] = max(row["genders"].values())
        writer.writerow(flat)


def main(args: argparse.Namespace) -> None:
    if args.output and args.output.suffix not in (".jsonl", ".csv"):
        raise ValueError(f"Expected --output to end in .jsonl or .csv; got {args.output}.")
    if args.output and args.output.exists():
        raise FileExistsError(f"{args.output} exists already. Choose another --output, or remove it.")
    pictures = list(find_pictures(args.pictures))
    options = {"detect": not args.crops, "detector": args.detector, "age_ranges": args.age_ranges}
    pipe = AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(args.model, revision=args.model_revision),
        image_processor=AutoImageProcessor.from_pretrained(args.model, revision=args.model_revision),
        revision=args.model_revision,
        **options,
    )
    rows = predict_faces(pipe, pictures)
    if args.output is None:
        write_json_lines(rows, sys.stdout)
        return
    with args.output.open("x", encoding="utf-8", newline="") as file:
        (write_csv if args.output.suffix == ".csv" else write_json_lines)(rows, file)


if __name__ == "__main__":
    try:
        main(read_arguments())
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
