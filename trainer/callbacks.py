"""Callbacks of the Trainer: what a run that resumes takes from its checkpoint beyond what the Trainer does (global batch, early
stopping, wall time), and a seed for each process.
"""

import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import has_length

from trainer.checkpoints import STATE, CheckpointError


logger = logging.getLogger(__name__)


class GlobalBatch(TrainerCallback, ExportableState):
    """Refuses to resume with another global batch size or another number of steps per epoch than the checkpoint's.

    The Trainer computes epoch and position in the data from the step alone, and would resume at another place.
    """

    def __init__(self) -> None:
        self.size = self.steps = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Raises:
            CheckpointError: the run was started with another global batch size or number of steps per epoch.
        """
        self.size = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        # 0 for a stream, whose length is unknown
        self.steps = (
            -(-len(train_dataloader) // args.gradient_accumulation_steps) if has_length(train_dataloader) else 0
        )
        # Checkpoints of older versions lack both. The second training of one Trainer finds those of its first.
        states = _callback_states(state)
        saved = states.get(type(self).__name__, {}).get("attributes", {})
        saved_size, saved_steps = saved.get("size", 0), saved.get("steps", 0)
        states[type(self).__name__] = self.state()
        if not state.global_step:
            return
        if saved_size not in (0, self.size):
            raise CheckpointError(
                f"The run was started with a global batch of {saved_size}, this start has {self.size} (processes x "
                f"per_device_train_batch_size x gradient_accumulation_steps = {args.world_size} x "
                f"{args.train_batch_size} x {args.gradient_accumulation_steps}). Change one of them so that it is "
                f"{saved_size} again."
            )
        if saved_steps not in (0, self.steps):
            raise CheckpointError(
                f"The run was started with {saved_steps} steps per epoch, this start has {self.steps}: it trains on other "
                "pictures (dataset, max_samples, also_train_on, repeat), or dataloader_drop_last differs."
            )
        if not self.steps and state.epoch > 1:  # the Trainer counts max_steps of a stream as one epoch
            logger.warning(
                "The run was stopped after its first epoch of the stream, whose length is unknown. It resumes at "
                "the beginning of an epoch, and sees the pictures in another order than an uninterrupted run."
            )

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"size": self.size, "steps": self.steps}}


class SeedEachProcess(TrainerCallback):
    """Gives each process random numbers of its own for augmentation and dropout.

    The Trainer seeds all processes alike, so that they start from the same weights; their dropout masks would then be
    the same too (https://github.com/huggingface/transformers/issues/31412). The first process keeps its seed. A resumed
    run loads each process's random state afterwards.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.process_index:
            torch.manual_seed(args.seed + args.process_index)


class EarlyStopping(EarlyStoppingCallback):
    """Continues to count from the checkpoint's number of evaluations without improvement.

    transformers restores it only with `restore_callback_states_from_checkpoint`, which builds every callback again from
    its saved arguments (https://github.com/huggingface/transformers/issues/28544).
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        saved = _callback_states(state).setdefault(type(self).__name__, self.state())
        self.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


class RunCost(TrainerCallback, ExportableState):
    """Adds up the wall time of all starts of a run, from the construction of each."""

    def __init__(self, beginning: dict[str, Any], checkpoint: str | None = None):
        """
        Args:
            beginning: what describes this start. The run's record keeps that of its first start.
            checkpoint: the one to resume from. Time after it that an earlier start lost is not counted.
        """
        self._before = _saved_in(checkpoint) if checkpoint else {}
        self.beginning = self._before.get("beginning", beginning)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.monotonic()

    def total(self) -> dict[str, Any]:
        """`started` (time of the first start, ISO 8601), number of `starts`, and `seconds` of all of them."""
        return {
            "started": self._before.get("started", self._started),
            "starts": self._before.get("starts", 0) + 1,
            "seconds": round(self._before.get("seconds", 0) + time.monotonic() - self._start),
        }

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": self.total() | {"beginning": self.beginning}}


def _saved_in(checkpoint: str) -> dict[str, Any]:
    callbacks = json.loads(Path(checkpoint, STATE).read_text())["stateful_callbacks"]
    return callbacks.get(RunCost.__name__, {}).get("attributes", {})


def _callback_states(state: TrainerState) -> dict[str, Any]:
    """{class name: saved state}. TrainerState declares the list that it was made from."""
    return cast(dict[str, Any], state.stateful_callbacks)
