"""An exponential moving average (EMA) of the weights, which is evaluated, chosen and published in their place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.checkpoints import CheckpointError


AVERAGE_FILE = "average.safetensors"  # in a checkpoint, beside the weights that the optimizer continues from
UPDATES = "updates"


class WeightAverage(TrainerCallback):
    """After every step, average = decay * average + (1 - decay) * weights; of the model's buffers too.

    The decay is lower at first, so that the untrained weights are soon forgotten: (1 + n) / (10 + n) after n steps, while
    that is less (as TensorFlow's ExponentialMovingAverage with num_updates).
    """

    def __init__(self, model: nn.Module, decay: float):
        """The average begins as `model` is."""
        self.decay = decay
        self._reset(model)

    def _reset(self, model: nn.Module) -> None:
        self.updates = 0
        self.values = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.global_step:  # a trial of a search begins with another model; a resumed run has loaded its average
            self._reset(kwargs["model"])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.update(kwargs["model"])

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        tensors = model.state_dict()
        floats = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.values[name] for name in floats], [tensors[name] for name in floats], 1 - decay)
        for name in tensors.keys() - set(floats):  # the number of batches that a batch normalisation has seen
            self.values[name].copy_(tensors[name])

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """`model` computes with the average in this block, and with its own weights after it."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        _copy(self.values, model)
        try:
            yield
        finally:
            _copy(own, model)

    def finish(self, model: nn.Module) -> None:
        """Leave the average in `model`, at the end of a training."""
        _copy(self.values, model)

    def save(self, checkpoint: Path) -> None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        values = {name: tensor.contiguous() for name, tensor in self.values.items()}
        save_file(values | {UPDATES: torch.tensor(self.updates)}, checkpoint / AVERAGE_FILE)

    def load(self, checkpoint: str | Path) -> None:
        """Continue from the average of a checkpoint, whose architecture must be the same.

        Raises:
            CheckpointError: the checkpoint has none.
        """
        path = Path(checkpoint, AVERAGE_FILE)
        if not path.exists():
            raise CheckpointError(
                f"{path} is missing: the run was started without ema_decay. Leave it out to resume, or start a new run."
            )
        saved = load_file(path)
        self.updates = int(saved.pop(UPDATES))
        for name, tensor in self.values.items():
            tensor.copy_(saved[name])


@torch.no_grad()
def _copy(values: dict[str, torch.Tensor], model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(values[name])
