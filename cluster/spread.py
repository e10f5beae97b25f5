"""A `map` whose calls run on the machines of a cluster."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import ray

from cluster.connection import check_machines, check_resources, cluster


Item = TypeVar("Item")
Result = TypeVar("Result")
TRIES = 4  # of a call whose machine or process is lost


@contextmanager
def spread_over(address: str) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map_on_cluster` on the cluster at this address, see `cluster.connection.cluster`.

    Raises:
        ClusterError: it cannot be used.
    """
    with cluster(address):
        check_resources({"CPU": 1})
        check_machines()
        yield map_on_cluster


def map_on_cluster(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(function, items)`, in order: each call is a task with a CPU. What is large in `function` travels once a process.

    Two items for each CPU are under way at most, which bounds the memory.
    """
    shared, call = ray.put(function), ray.remote(num_cpus=1, max_retries=TRIES - 1)(_call)
    under_way: deque[ray.ObjectRef] = deque()
    for item in items:
        under_way.append(call.remote([shared], item))
        if len(under_way) >= 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
            yield ray.get(under_way.popleft())
    while under_way:
        yield ray.get(under_way.popleft())


def _call(shared: list["ray.ObjectRef[Any]"], item: Any) -> Any:
    """`shared`: in a list, since Ray would otherwise fetch and unpack the function for each call."""
    return _function(shared[0])(item)


@lru_cache(maxsize=1)
def _function(reference: "ray.ObjectRef[Any]") -> Callable[[Any], Any]:
    cv2.setNumThreads(1)  # Ray runs one process for each CPU
    return ray.get(reference)
