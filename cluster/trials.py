"""Trials of a hyperparameter search, concurrently on the machines of a cluster, in the study that one process would fill."""

import itertools
import os
import socket
import threading
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy, run_grpc_proxy_server
from ray.exceptions import RayActorError, RayTaskError

from cluster import ClusterError
from model.model_files import one_line
from trainer.arguments import Arguments
from trainer.experiments.search import SearchSpace, Trials


LOST_AT_MOST = 5  # processes in one start of a search


def run_trials(recipe_argv: Sequence[str], space: SearchSpace, storage: BaseStorage, first: int, count: int) -> None:
    """Run trials in one process for each GPU of the cluster, or each CPU where it has none.

    Args:
        recipe_argv: the recipe and its arguments. Data and output are read and written at the same paths on every machine.
        space, storage, first, count: see `trainer.experiments.search.RunTrials`.

    Raises:
        ClusterError: processes were lost again and again.
        AgeGenderError: a trial cannot be trained.
    """
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1} if gpus else {"num_cpus": 1}
    worker: Any = ray.remote(**needs)(_Worker)
    address = _serve(storage)

    def start() -> Any:
        return worker.remote(list(recipe_argv), space, address, os.getcwd())

    numbers = itertools.count(first)
    processes = [start() for _ in range(min(count, gpus or int(there.get("CPU", 1))))]
    working = {process.run.remote(next(numbers)): process for process in processes}
    left, lost = count - len(processes), 0
    while working:
        [done], _ = ray.wait(list(working), num_returns=1)
        process = working.pop(done)
        try:
            ray.get(done)
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:  # its trial stays unfinished, and another one takes its place
            lost += 1
            if lost > LOST_AT_MOST:
                raise ClusterError(f"{lost} processes of the search were lost: {one_line(error)}") from error
            process, left = start(), left + 1
        if left:
            left -= 1
            working[process.run.remote(next(numbers))] = process


class _Worker:
    """A process that trains trials sequentially."""

    def __init__(self, recipe_argv: list[str], space: SearchSpace, address: tuple[str, int], folder: str):
        if Path(folder).is_dir():
            os.chdir(folder)  # for relative paths
        self._recipe_argv, self._space, self._address = recipe_argv, space, address

    @cached_property
    def _trials(self) -> Trials:
        """Not made by the constructor, whose errors Ray reports as a lost process."""
        with _experimental():
            storage = GrpcStorageProxy(host=self._address[0], port=self._address[1])
        return Trials(Arguments.parse(self._recipe_argv), self._space, storage)

    def run(self, number: int) -> None:
        self._trials.run(1, first=number)


def _serve(storage: BaseStorage) -> tuple[str, int]:
    """Let the machines of the cluster use this process's storage until it ends; host and port."""
    host = ray.util.get_node_ip_address()
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]

    def serve() -> None:
        with _experimental():
            run_grpc_proxy_server(storage, host=host, port=port)

    threading.Thread(target=serve, name="study", daemon=True).start()
    with _experimental():
        GrpcStorageProxy(host=host, port=port).wait_server_ready(timeout=60)
    return host, port


def _experimental() -> Any:
    """Optuna calls its proxy experimental."""
    return warnings.catch_warnings(action="ignore", category=ExperimentalWarning)
