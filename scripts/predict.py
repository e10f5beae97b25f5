"""Age and gender by appearance for any number of pictures: one row a face.

    python -m scripts.predict photos/ --output faces.parquet
    python -m scripts.predict "photos/*.jpg" album.zip list.txt shards.parquet user/dataset --output faces.csv
    python -m scripts.predict film.mp4 --frames-per-second 2 --output faces.parquet

Each row holds the picture's place in the input, its file and the pipeline's answer for one face. A picture without a
face has one row that says so. A picture that cannot be read has one row with `error`, and does not stop the others.
`picture` numbers the pictures of the input from 0. `face` numbers the faces of a picture from 0, from left to right; the
column of the same name in the demo's CSV numbers them from 1. A CSV is made for spreadsheets: it writes a range of ages as
"3 to 9", and puts an apostrophe before a file name that would be run as a formula.

Of a folder or archive, all pictures are scored that the pipeline can read, whatever their names; hidden files, such as
thumbnails and deleted ones, are not. What was skipped is counted at the end, by kind.

To resume a run that was stopped, start the same command again. Its finished parts are in the folder OUTPUT.parts, which
is removed when the output is complete.

More than one machine: docs/scale.md. The machines of a Ray cluster share the pictures out and write a folder of parquet
files with the same rows:

    python -m scripts.predict s3://bucket/photos --output s3://bucket/faces --ray 10.0.0.1:6379
"""

import argparse
import os
import sys
from collections.abc import Sequence


# Before the first import of torch, whose OpenMP reads it: the model's threads would spin while they wait for each other, on the
# cores that decode and detect. Photographs take a quarter less time, crops an eighth.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from model.configuration_age_gender import RANGE_SETS
from scoring.inputs import EXPECTED
from scoring.run import FACES_ON_CPU, FACES_ON_GPU, ScoringOptions, prepare_process, print_rows, score_to_file
from scripts.command import errors_explained, with_dashes


def read_arguments(argv: Sequence[str]) -> ScoringOptions:
    """
    Raises:
        AgeGenderError: see `ScoringOptions`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m scripts.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given is left out, and gets the default of `ScoringOptions`
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help=EXPECTED)
    parser.add_argument(
        "--output", help="a new .parquet, .csv or .jsonl, or a folder with --ray; without it JSON lines are printed"
    )
    parser.add_argument("--model", help="folder or Hub id of the model")
    parser.add_argument("--model-revision", help="branch, tag or commit of a model on the Hub")
    parser.add_argument("--crops", action="store_true", help="the pictures are face crops: do not detect faces")
    parser.add_argument(
        "--detector", choices=("yunet", "haar"), help="default: yunet, or haar where its file is missing"
    )
    parser.add_argument(
        "--age-ranges",
        help=f"'0-17, 18+', or one of: {', '.join(RANGE_SETS)}; default: the model's own",
    )
    parser.add_argument("--image-column", help="of a parquet file or a dataset on the Hub")
    parser.add_argument("--dataset-revision", help="branch, tag or commit of a dataset on the Hub")
    parser.add_argument(
        "--frames-per-second", type=float, help=f"of a video (default: {ScoringOptions.frames_per_second:g})"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--onnx-file", help="compute with this file of the model on onnxruntime: onnx/model_int8.onnx")
    parser.add_argument(
        "--bf16",
        action=argparse.BooleanOptionalAction,
        help="compute in bfloat16; default: where the hardware has it; with --ray on CPUs, where all machines have it",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        help=f"faces that go through the model together; default: {FACES_ON_GPU} on a GPU, {FACES_ON_CPU} on a CPU",
    )
    parser.add_argument("--workers", type=int, help="threads that decode and detect; default: one for each core")
    parser.add_argument(
        "--part-size",
        type=int,
        help=f"pictures in a part (default: {ScoringOptions.part_size}); a run that is killed loses at most one part",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="score on a cluster of Ray: its host:port; auto, the one that this machine belongs to; or local, this machine",
    )
    return ScoringOptions(**vars(parser.parse_args(with_dashes(argv))))


def main(options: ScoringOptions) -> None:
    if options.ray:
        print_cluster_counts(options)
        return
    prepare_process(options)
    if options.output is None:
        print_rows(options)
        return
    counts = score_to_file(options)
    if counts is None:
        print(f"{options.output} is complete already.", file=sys.stderr)
    else:
        print(
            f"{options.output}: {counts.faces:,} faces in {counts.pictures:,} pictures, "
            f"{counts.errors:,} of which could not be used."
        )


def print_cluster_counts(options: ScoringOptions) -> None:
    """
    Raises:
        AgeGenderError: Ray is not installed, or as `score_on_cluster`.
    """
    from scoring.cluster.run import score_on_cluster  # imports Ray, which only --ray needs

    counts = score_on_cluster(options)
    print(
        f"{options.output}: complete, with {counts.pictures:,} pictures. This start scored {counts.scored:,} of them and found "
        f"{counts.faces:,} faces; {counts.errors:,} could not be used."
    )


if __name__ == "__main__":
    with errors_explained():
        main(read_arguments(sys.argv[1:]))
