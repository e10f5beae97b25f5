"""A cluster of Ray on this machine, whose machines are groups of processes that can be lost."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster


MIB = 2**20


class Machines:
    """Two machines with a CPU each beside the one that only leads; this process is connected to them."""

    def __init__(self) -> None:
        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray's spelling; else they wait for every other process
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Processes that have imported torch serve the next test too; Ray would end all but one after a second.
        os.environ["RAY_num_workers_soft_limit"] = "8"  # noqa: SIM112
        os.environ["RAY_idle_worker_killing_time_threshold_ms"] = "600000"  # noqa: SIM112
        self.cluster = Cluster()
        self._add(num_cpus=0, include_dashboard=False)
        self._workers = [self.add(), self.add()]

    def add(self) -> Any:
        return self._add(num_cpus=1)

    def lose(self, process: int) -> None:
        """Lose the machine that `process` belongs to, without a warning."""
        parent = psutil.Process(process).ppid()
        machine = next(one for one in self._workers if one.all_processes["raylet"][0].process.pid == parent)
        self._workers.remove(machine)
        self.cluster.remove_node(machine, allow_graceful=False)

    def _add(self, **options: Any) -> Any:
        return self.cluster.add_node(object_store_memory=100 * MIB, **options)


@contextmanager
def machines() -> Iterator[Machines]:
    started = Machines()
    try:
        ray.init(address=started.cluster.address, logging_level="error", log_to_driver=False)
        yield started
    finally:
        ray.shutdown()
        started.cluster.shutdown()
