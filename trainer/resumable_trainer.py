"""The Hugging Face Trainer with an end of the run where a value is NaN or Inf, and checkpoints that restore every weight and the
average of the weights.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import TrainOutput

from model.model_files import follow_umask
from model.modeling_age_gender import AgeGenderModel
from trainer.arguments import RunArguments
from trainer.checkpoints import CheckpointError, TrainingDiverged, resume_hint, weights_in_checkpoint
from trainer.weight_average import WeightAverage


LOSS_CHECK_STEPS = 20  # reading a loss forces a device synchronisation, so this many are read at once


class ResumableTrainer(Trainer):
    """Where a private method of `Trainer` is overridden, a comment links to the upstream lines that make it necessary."""

    args: RunArguments
    model: AgeGenderModel
    average: WeightAverage | None = None  # of the weights; a checkpoint holds it too

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._unchecked_losses: list[tuple[int, torch.Tensor]] = []  # (step, loss); they stay on the device

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        self._unchecked_losses = []  # a pruned trial leaves some behind
        return super().train(*args, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._unchecked_losses.append((self.state.global_step + 1, loss))
        if len(self._unchecked_losses) == LOSS_CHECK_STEPS:
            self._check_losses()
        return loss

    def _check_losses(self) -> None:
        """
        Raises:
            TrainingDiverged: a loss since the last check is NaN or Inf.
        """
        unchecked, self._unchecked_losses = self._unchecked_losses, []
        if unchecked and not torch.stack([loss for _, loss in unchecked]).isfinite().all():
            step, loss = next((step, loss) for step, loss in unchecked if not loss.isfinite())
            raise TrainingDiverged(f"The loss is {loss.item()} at step {step}. {self._resume_hint()}")

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # Trainer asks whether to stop after the first step of an epoch only: a run resumed at its last step, or where
        # early stopping had ended it, would train one step more (https://github.com/huggingface/transformers/issues/10290,
        # https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py#L1963).
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    # Checkpoints hold the Hub's key names, and Trainer loads them into the model with strict=False: the backbone would
    # silently keep its last weights (https://github.com/huggingface/transformers/issues/43701). Under FSDP it saves and
    # loads the model's own key names.

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            assert self.state.best_model_checkpoint is not None
            self._load_from_checkpoint(self.state.best_model_checkpoint)  # the average of the weights too

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """
        Raises:
            CheckpointError: the checkpoint lacks weights of this model, or has others.
        """
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        weights = weights_in_checkpoint(resume_from_checkpoint, self.model)
        (model or self.model).load_state_dict(weights, strict=True)
        if self.average:
            self.average.load(resume_from_checkpoint)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """
        Raises:
            TrainingDiverged: a loss or a weight is NaN or Inf.
            CheckpointError: the checkpoint could not be written.
        """
        # No callback event precedes the writing, and none follows when it fails:
        # https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py#L2276-L2278
        step = self.state.global_step
        self._check_losses()
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            raise TrainingDiverged(f"Weights are NaN or Inf after step {step}. {self._resume_hint()}")
        try:
            # before trainer_state.json, which marks the checkpoint as complete
            if self.average and self.args.should_save:
                self.average.save(Path(self._get_output_dir(trial), f"checkpoint-{step}"))
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero() and trial is None:
                follow_umask(Path(self.args.output_dir, f"checkpoint-{step}"))
        except (OSError, RuntimeError, SafetensorError) as error:  # Python, torch and safetensors on a full disk
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written to {self.args.output_dir}: {error}. Is the disk "
                f"full? {self._resume_hint()}"
            ) from error

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The main process writes trainer_state.json next, which marks the checkpoint as complete, and Trainer does not
        # wait until the other processes have written their random states:
        # https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py#L3395-L3409
        self.accelerator.wait_for_everyone()

    def _resume_hint(self) -> str:
        return resume_hint(Path(self.args.output_dir))
