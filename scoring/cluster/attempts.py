"""How often each stage of each part was started.

Alone in a module: the process that counts then imports neither torch nor the scorer.
"""

from collections import Counter
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Attempts:
    """Counts in a process of its own, since the process that works on a part may end.

    Ray Data tries a part whose process ends for ever: a picture that crashes the decoder would never let a run end.
    """

    def __init__(self) -> None:
        self._starts: Counter[tuple[str, int]] = Counter()

    @classmethod
    def beside_this_process(cls) -> Any:
        """An actor on this machine, which is lost only if the run is."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return ray.remote(num_cpus=0)(cls).options(scheduling_strategy=here).remote()

    def begin(self, stage_and_part: tuple[str, int]) -> int:
        """Which attempt this is, from 1."""
        self._starts[stage_and_part] += 1
        return self._starts[stage_and_part]
