"""Read training_run.json, the record beside a model's weights: which sets of faces they learnt from, and under which terms."""

import json
from pathlib import Path
from typing import Any


RUN_RECORD = "training_run.json"  # the trainer writes it after the weights: a folder that holds it is trained
RENAMED_ARGUMENTS = {  # old name -> name today; recipes and records of earlier versions hold the old ones
    "mirror_average": "flip_tta",
    "start_from": "finetune_from",
    "start_revision": "finetune_revision",
    "validation_share": "validation_fraction",
    "test_share": "test_fraction",
    "max_unusable_share": "max_unusable_fraction",
    "outside": "external",
}
# Part of the names that a set goes by, such as FairFace-train-40k.tar.gz -> the set
KNOWN_SETS = {
    "utkface": "UTKFace",
    "fairface": "FairFace",
    "appa-real": "APPA-REAL",
    "appa_real": "APPA-REAL",
    "imdb": "IMDB-WIKI",
    "vggface": "VGGFace2",
    "imagenet": "ImageNet",
    "adience": "Adience",
}
FREE_SETS = ("FairFace",)  # the authors of all others allow non-commercial research only


def read_run_record(folder: Path) -> dict[str, Any] | None:
    """The record in a model's folder, its arguments under the names they have today; None where there is none."""
    path = folder / RUN_RECORD
    if not path.exists():
        return None
    run = json.loads(path.read_text(encoding="utf-8"))
    return run | {"arguments": _with_new_names(run["arguments"])} if "arguments" in run else run


def _with_new_names(arguments: Any) -> Any:
    """Rename the keys of a mapping, and of the mappings that lists in it hold (`also_train_on`)."""
    if isinstance(arguments, list):
        return [_with_new_names(item) for item in arguments]
    if isinstance(arguments, dict):
        return {RENAMED_ARGUMENTS.get(name, name): _with_new_names(value) for name, value in arguments.items()}
    return arguments


def trained_sets(run: dict[str, Any]) -> list[dict[str, str]]:
    """The `dataset` and `splits_sha256` of each set that this run trained on; not those of the model it fine-tuned."""
    first = {"dataset": run["arguments"]["dataset"], "splits_sha256": run["data"]["splits_sha256"]}
    others = run["data"].get("also_trained_on") or ()
    return [first, *({name: other[name] for name in first} for other in others)]


def trained_on_other_splits(run: dict[str, Any]) -> list[str]:
    """Names of the sets that the fine-tuned model, or a teacher, had been trained on, split otherwise than in this run.

    It may have seen what this run held out of them.
    """
    ours = {known["splits_sha256"] for known in trained_sets(run)}
    return [known["dataset"] for known in earlier_sets(run) if known["splits_sha256"] not in ours]


def earlier_sets(run: dict[str, Any]) -> list[dict[str, str]]:
    """As `trained_sets`, of the model that this run fine-tuned and of its teachers."""
    return [known for one in learnt_from(run) for known in one["trained_on"]]


def learnt_from(run: dict[str, Any]) -> list[dict[str, Any]]:
    """What `trainer.finetuning.describe_trained` says of the model that this run fine-tuned, and of its teachers."""
    return [one for one in (run.get("started_from"), *(run.get("taught_by") or ())) if one]


def all_sources(run: dict[str, Any]) -> list[str]:
    """The argument `sources` of this run, and of the models that it learnt from."""
    lines = [run["arguments"].get("sources"), *(one.get("sources") for one in learnt_from(run))]
    return list(dict.fromkeys(line for some in lines for line in some or ()))


def known_sets(text: str) -> list[str]:
    """The sets of `KNOWN_SETS` that a text names, such as the path of an archive."""
    return list(dict.fromkeys(name for part, name in KNOWN_SETS.items() if part in text.lower()))


def may_be_same(dataset: str, other: str) -> bool:
    """Whether two names may stand for the same pictures: they are equal, or name the same known set."""
    return dataset == other or not {*known_sets(dataset)}.isdisjoint(known_sets(other))


def research_only_sets(run: dict[str, Any]) -> list[str]:
    """The sets for research only that this run names: its own, those of the models it learnt from, and in `sources`.

    Args:
        run: a record, or the part of one that is known before training: `arguments`, `started_from`, `taught_by`.
    """
    arguments = run["arguments"]
    named = [arguments.get(name) for name in ("dataset", "also_train_on", "backbone", "embeddings")]
    text = json.dumps([named, learnt_from(run), all_sources(run)])
    return [name for name in known_sets(text) if name not in FREE_SETS]


def license_problem(run: dict[str, Any]) -> str | None:
    """Why weights of this run cannot be under the licence that its argument `license` names; None if they can."""
    license_id, sets = run["arguments"].get("license"), research_only_sets(run)
    if not license_id or not sets:
        return None
    return (
        f"license: {license_id} is no licence for weights that learnt from {', '.join(sets)}, whose terms allow "
        "non-commercial research only. Leave license out, or train without them."
    )
