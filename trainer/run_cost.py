"""What a run was begun with and has cost, over all the times it was stopped and gone on with."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from trainer.checkpoints import STATE
from trainer.energy import EnergyMeter


class RunCost(TrainerCallback, ExportableState):
    """Counts from its making on. As a callback it is written into every checkpoint, where the next start finds it."""

    def __init__(self, beginning: dict[str, Any], checkpoint: str | None = None):
        """
        Args:
            beginning: what this start was begun with. A run is described by its first start's.
            checkpoint: where the run goes on from; what was done after it and lost is not counted.
        """
        self._before = _saved_in(checkpoint) if checkpoint else {}
        self.beginning = self._before.get("beginning", beginning)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start, self._meter = time.monotonic(), EnergyMeter()

    def total(self) -> dict:
        """`started` (the first time), `starts`, `seconds`, `energy` (`cpu_joules` and `gpu_joules`, None if unknown)."""
        before = self._before.get("energy", {})
        return {
            "started": self._before.get("started", self._started),
            "starts": self._before.get("starts", 0) + 1,
            "seconds": round(self._before.get("seconds", 0) + time.monotonic() - self._start),
            "energy": {name: _sum(before.get(name, 0), joules) for name, joules in self._meter.read().items()},
        }

    def state(self) -> dict:
        return {"args": {}, "attributes": self.total() | {"beginning": self.beginning}}


def _sum(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else before + now


def _saved_in(checkpoint: str) -> dict:
    callbacks = json.loads(Path(checkpoint, STATE).read_text())["stateful_callbacks"]
    return callbacks.get(RunCost.__name__, {}).get("attributes", {})
