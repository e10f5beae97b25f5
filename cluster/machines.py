"""The machines of a cluster of Ray: the connection, what is checked on each of them before the work (one clear line an error),
and a `map` whose calls run on them.
"""

import hashlib
import os
import platform
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import cv2
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import ClusterError
from model.model_files import one_line
from trainer.devices import usable_cores


SECONDS_TO_CONNECT = 10
SECONDS_TO_CHECK = 300  # a machine first starts a process that imports torch
PACKAGES = ("ray", "torch", "transformers", "pyarrow", "pillow", "opencv-python-headless", "numpy")
# What the workers import, from the root of this repository.
CODE = ("cluster/*.py", "model/*.py", "model_card/*.py", "scoring/**/*.py", "trainer/**/*.py")
ROOT = Path(__file__).resolve().parents[1]

Item = TypeVar("Item")
Result = TypeVar("Result")
TRIES = 4  # of a call whose machine or process is lost


@contextmanager
def cluster(address: str, cpus: int | None = None) -> Iterator[None]:
    """Connect to a cluster until the block ends, unless this process is connected to one.

    Args:
        address: host:port; "auto": the cluster that this machine belongs to; or "local": one that consists of this machine
            and ends with the block.
        cpus: of a "local" one; default: the cores that this process may use.

    Raises:
        ClusterError: nothing answers there, or its versions of Ray or Python differ from this process's.
    """
    if ray.is_initialized():
        yield
        return
    if address not in ("auto", "local"):
        _check_answers(address)
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    try:
        if address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to Ray's makers
            ray.init(address=address, num_cpus=cpus or usable_cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except ConnectionError as error:
        where = "of which this machine is a part" if address == "auto" else f"at {address}"
        hint = "Start one with `ray start`, or use --ray local." if address == "auto" else ""
        raise ClusterError(f"No cluster {where} answers: {one_line(error)} {hint}".rstrip()) from error
    except RuntimeError as error:  # versions that differ: Ray has no class of its own for it
        raise ClusterError(f"The cluster at {address} cannot be used: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_resources(needed: Mapping[str, float]) -> None:
    """Ray would wait for ever for what no machine has.

    Args:
        needed: {resource, such as "CPU": at least so much in the whole cluster}.

    Raises:
        ClusterError: there is less.
    """
    there = ray.cluster_resources()
    lacking = [
        f"{amount:g} {name} (it has {there.get(name, 0):g})"
        for name, amount in needed.items()
        if there.get(name, 0) < amount
    ]
    if lacking:
        raise ClusterError(f"Expected a cluster with at least {' and '.join(lacking)}. Add a machine, or ask for less.")


def check_machines(look: Callable[[], str] = str) -> None:
    """Compare the versions and the code on each machine with this process's, and look there for what the work needs.

    Args:
        look: called on each machine; says what is missing there, "" if nothing.

    Raises:
        ClusterError: a machine differs, lacks a package or this repository, or something is missing.
    """
    own = versions()
    for name, (found, missing) in ask_machines(partial(_report, look)):
        check_versions(name, own, found)
        if missing:
            raise ClusterError(f"The machine {name} cannot work: {missing}")


def ask_machines(question: Callable[[], Result]) -> Iterator[tuple[str, Result]]:
    """Call `question` on each machine, at the same time.

    Returns:
        The name of each machine and its answer.

    Raises:
        ClusterError: a machine lacks a package or this repository, or does not answer.
    """
    asked = []
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task: Any = ray.remote(num_cpus=0, max_retries=1)(_answer).options(scheduling_strategy=there)
            asked.append((node["NodeManagerAddress"], task.remote(question)))
    for name, answer in asked:
        try:
            yield name, ray.get(answer, timeout=SECONDS_TO_CHECK)
        except Exception as error:  # no package, no repository, no process: Ray wraps whatever it is
            raise ClusterError(f"The machine {name} cannot work: {one_line(error)}") from error


def check_versions(machine: str, own: Mapping[str, str], found: Mapping[str, str]) -> None:
    """
    Raises:
        ClusterError: they differ, so answers might; the message names each.
    """
    differing = [f"{name} {found.get(name)} in place of {own[name]}" for name in own if found.get(name) != own[name]]
    if differing:
        raise ClusterError(f"The machine {machine} has {', '.join(differing)}. Install the same there as here.")


def versions() -> dict[str, str]:
    """Versions of Python, packages and code, on the machine that calls it: with others, answers may differ or work fail."""
    code = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
        code.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return {
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "code of this repository": code.hexdigest()[:12],
    }


def _answer(question: Callable[[], Result]) -> Result:  # Ray takes no partial
    return question()


def _report(look: Callable[[], str]) -> tuple[dict[str, str], str]:
    return versions(), look()


def _check_answers(address: str) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or "/" in host:
        raise ClusterError(f"Expected --ray auto, local or host:port, such as 10.0.0.1:6379; got {address}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"No cluster answers at {address}: {one_line(error)}. Check the address that `ray start --head` printed."
        ) from error


@contextmanager
def checked_cluster(address: str) -> Iterator[None]:
    """As `cluster`, once it has a CPU and all its machines can work.

    Raises:
        ClusterError: it cannot be used.
    """
    with cluster(address):
        check_resources({"CPU": 1})
        check_machines()
        yield


def map_on_cluster(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(function, items)`, in order: each call is a task with a CPU. What is large in `function` travels once a process.

    Two items for each CPU are under way at most, which bounds the memory.
    """
    shared, call = ray.put(function), ray.remote(num_cpus=1, max_retries=TRIES - 1)(_call)
    under_way: deque[ray.ObjectRef] = deque()
    for item in items:
        under_way.append(call.remote([shared], item))
        if len(under_way) >= 2 * max(1, int(ray.cluster_resources().get("CPU", 1))):
            yield _result(under_way.popleft())
    while under_way:
        yield _result(under_way.popleft())


def _result(done: "ray.ObjectRef[Any]") -> Any:
    """
    Raises:
        ClusterError: the machine or the process that worked on it was lost again and again.
        Exception: what the function raised.
    """
    try:
        return ray.get(done)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise ClusterError(f"The cluster lost a part of the work {TRIES} times: {one_line(error)}") from error


def _call(shared: list["ray.ObjectRef[Any]"], item: Any) -> Any:
    """`shared`: in a list, since Ray would otherwise fetch and unpack the function for each call."""
    return _function(shared[0])(item)


@lru_cache(maxsize=1)
def _function(reference: "ray.ObjectRef[Any]") -> Callable[[Any], Any]:
    cv2.setNumThreads(1)  # Ray runs one process for each CPU
    return ray.get(reference)
