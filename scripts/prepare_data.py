"""Clean, group and split a set of labelled faces once: parquet with embedded pictures, manifest and data card.

    python -m scripts.prepare_data --dataset UTKFace.tar.gz --output_dir data/utkface [--push_to_hub user/utkface]

`--dataset data/utkface`, or the Hub id, then trains on it without cleaning again, from the disk or as a stream.
"""

import sys
from collections.abc import Sequence
from typing import Any

from scripts.command import errors_explained
from trainer.data.arguments import DataArguments
from trainer.data.preparation import PrepareArguments, prepare_data
from trainer.recipe import parse_recipe


def format_report(report: dict[str, Any]) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in report["splits"].items())
    lines = [f"{report['files']:,} files: {report['kept']:,} kept ({sizes}), {report['dropped']:,} dropped"]
    lines += [f"{count:8,} {reason}" for reason, count in report["reasons"].items()]
    lines += [
        f"{count:8,} kept without {label}" for label, count in report["unknown"].items() if count and label != "race"
    ]
    lines.append(
        f"{report['identical_groups']:,} pictures occur more than once with the same pixels. With near-duplicates there are "
        f"{report['copy_groups']:,} groups of duplicates with {report['copy_pictures']:,} pictures."
    )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    args, data_args = parse_recipe(argv, [PrepareArguments, DataArguments])
    if not args.ray:
        print(format_report(prepare_data(args, data_args)))
        return
    from cluster.machines import checked_cluster, map_on_cluster  # imports Ray, which only --ray needs

    with checked_cluster(args.ray):
        print(format_report(prepare_data(args, data_args, map_on_cluster)))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
