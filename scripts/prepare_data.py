"""Clean, group and split a set of labelled faces, once: parquet with embedded pictures, manifest and data card.

    python -m scripts.prepare_data --dataset UTKFace.tar.gz --output-dir data/utkface [--push-to-hub user/utkface]

`--dataset data/utkface`, or the Hub id, then trains on it without cleaning again, from the disk or as a stream.
"""

import sys

from transformers import HfArgumentParser

from trainer.data.arguments import DataArguments
from trainer.data.preparation import PrepareArguments, prepare_data


def format_report(report: dict) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in report["splits"].items())
    lines = [f"{report['files']:,} files: {report['kept']:,} kept ({sizes}), {report['dropped']:,} dropped"]
    lines += [f"{count:8,} {reason}" for reason, count in report["reasons"].items()]
    lines.append(
        f"{report['identical_groups']:,} pictures occur more than once with the same pixels; with near-identical ones "
        f"{report['copy_groups']:,} groups of copies with {report['copy_pictures']:,} pictures."
    )
    return "\n".join(lines)


def main() -> None:
    parser = HfArgumentParser([PrepareArguments, DataArguments], allow_abbrev=False, description=__doc__)
    args, data_args = parser.parse_args_into_dataclasses()
    print(format_report(prepare_data(args, data_args)))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
