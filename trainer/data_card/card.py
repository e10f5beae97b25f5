"""The data card of a prepared set, rendered from its report: no figure is typed by hand."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData
from jinja2 import Environment, StrictUndefined

from trainer.data_arguments import DataArguments
from trainer.data_card.report import AGE_RANGES
from trainer.run_record import public_name
from trainer.splits import SPLITS


TEMPLATE = Path(__file__).parent / "template.md"
CAPTIONS = {"ages": "Ages by gender", "races_by_age": "Race by age range"}
_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
_PLACES = ("cache_dir", "num_proc", "streaming")  # arguments that do not change the result


def render_data_card(
    report: dict[str, Any], figures: list[str], data_args: DataArguments, seed: int, repo_id: str | None
) -> str:
    """README.md of the prepared set.

    Args:
        report: of `trainer.data_card.report.describe_data`. figures: names of the PNG files in `figures/`.
        repo_id: user/dataset on the Hub, if it goes there.
    """
    source = public_name(data_args.dataset)
    is_utkface = "utkface" in source.lower()
    card_data = DatasetCardData(
        pretty_name=f"{source}, cleaned and split without leaks",
        task_categories=["image-classification"],
        license="other",
        size_categories=[next(name for limit, name in _SIZES if report["kept"] < limit)],
        tags=["age-estimation", "gender", "faces"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in SPLITS],
            }
        ],
    )
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["interval"] = lambda score, form: "{} [{}, {}]".format(*map(form.format, score))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=card_data.to_yaml(),
        title="UTKFace" if is_utkface else source,
        source=source,
        source_is_utkface=is_utkface,
        repo_id=repo_id,
        report=report,
        figures=figures,
        captions=CAPTIONS,
        aligned=data_args.align,
        split_by=data_args.split_by,
        max_age_spread=data_args.max_age_spread,
        split_rule=describe_splits(data_args, seed),
        splits=SPLITS,
        age_ranges=AGE_RANGES,
        command=describe_command(data_args, seed),
    )


def describe_splits(data_args: DataArguments, seed: int) -> str:
    if data_args.manifest:
        return f"Taken from `{Path(data_args.manifest).name}`."
    if data_args.folds:
        parts = (
            f"Fold {data_args.fold} of {data_args.folds} (from 0) is test, {data_args.validation_share:.0%} of all, from "
            "the other folds, are validation"
        )
    else:
        parts = f"{data_args.validation_share:.0%} validation, {data_args.test_share:.0%} test"
    return (
        f"{parts}, balanced over age range and gender, and decided by the pictures' content and the seed {seed} alone: "
        "neither file names nor their order matter."
    )


def describe_command(data_args: DataArguments, seed: int) -> str:
    """The command that prepares the same set, without this machine's paths."""
    changed = {
        field.name: getattr(data_args, field.name)
        for field in fields(data_args)
        if field.name not in ("dataset", *_PLACES) and getattr(data_args, field.name) != field.default
    }
    if data_args.manifest:
        changed["manifest"] = Path(data_args.manifest).name
    options = "".join(f" --{name} {value!r}" for name, value in changed.items())
    return f"python -m scripts.prepare_data --dataset {public_name(data_args.dataset)} --seed {seed}{options}"
