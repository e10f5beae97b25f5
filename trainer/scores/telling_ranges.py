"""Which sets of age ranges speak for a set of faces whose labels may be ranges themselves."""

from typing import Any


LEAST_SHARE = 0.9  # of the faces that the best placed set of ranges is scored on


def telling_range_sets(age_ranges: dict[str, Any]) -> dict[str, Any]:
    """The entries of `age_ranges` in `metrics.json` that are of nearly all faces, and of more than one labelled range.

    A label such as "20-29" lies in no single range of some sets. Scored on the faces that are left, such a set would look
    easier or harder than it is; where they are all of one range, always answering that one is always right.
    """
    most = max((scores["accuracy"]["n"] for scores in age_ranges.values()), default=0)
    return {
        name: scores
        for name, scores in age_ranges.items()
        if scores["accuracy"]["n"] >= LEAST_SHARE * most and sum(row["n"] > 0 for row in scores["classes"]) > 1
    }
