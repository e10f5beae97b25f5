"""The pictures of a set are read by one machine or by a cluster: the same rows, and one cache."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from datasets import Dataset, Features, Image

from tests.support.faces_on_disk import face_files
from trainer.data.cleaning import ROWS_A_CALL, find_groups, fingerprint_pictures


def test_a_cluster_of_any_size_is_kept_busy_and_shares_the_cache():
    pictures = [{"bytes": content, "path": None} for content in face_files(3).values()] + [None] * 3197
    rows = Dataset.from_dict({"image": pictures}, features=Features({"image": Image(decode=False)}))
    taken: list[int] = []

    def spread(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """As a cluster that takes all calls ahead."""
        calls = list(items)
        taken.append(len(calls))
        return map(function, calls)

    alone, together = fingerprint_pictures(rows), fingerprint_pictures(rows, spread=spread)
    assert taken == [3200 // ROWS_A_CALL]
    assert together[:] == alone[:]
    assert together._fingerprint == alone._fingerprint
    assert find_groups(together) == find_groups(alone)
