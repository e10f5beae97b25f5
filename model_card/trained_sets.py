"""Which sets of faces, split in which way, a run's record says that its model has been trained on."""

from typing import Any


FAMILIES = ("utkface", "fairface")  # sets that are passed on under many names, such as FairFace-train-40k.tar.gz


def may_be_same(dataset: str, other: str) -> bool:
    """Whether two names may stand for the same pictures: they are equal, or of one family."""
    names = (dataset.lower(), other.lower())
    return dataset == other or any(all(family in name for name in names) for family in FAMILIES)


def trained_sets(run: dict[str, Any]) -> list[dict[str, str]]:
    """The sets of this run itself: their names, and what tells their splits from others."""
    first = {"dataset": run["arguments"]["dataset"], "splits_sha256": run["data"]["splits_sha256"]}
    others = run["data"].get("also_trained_on") or ()
    return [first, *({name: other[name] for name in first} for other in others)]


def otherwise_split(run: dict[str, Any]) -> list[str]:
    """Names of the sets that the model it went on from had been trained on by other splits than this run's.

    What this run held out of them may have been seen before.
    """
    ours = {known["splits_sha256"] for known in trained_sets(run)}
    before = (run.get("started_from") or {}).get("trained_on", ())
    return [known["dataset"] for known in before if known["splits_sha256"] not in ours]
