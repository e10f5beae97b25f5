"""A score as people read it."""

from typing import Any


def with_interval(score: dict[str, Any] | None, scale: int, decimals: int, sign: str = "") -> str:
    """`4.81 [4.65, 4.98]`; the value alone where there are too few faces for an interval, a dash without any.

    `scale`: 100 for percent. `sign`: "+" for changes.
    """
    if not score or score["value"] is None:
        return "-"
    value, low, high = (
        "" if score[end] is None else f"{scale * score[end]:{sign}.{decimals}f}" for end in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]" if low else value
