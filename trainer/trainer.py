"""`AgeGenderTrainer`: the Hugging Face Trainer with augmentation on the device, teachers, and the losses and scores of both
heads in its log.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from model.modeling_age_gender import AgeGenderModel
from trainer.callbacks import GlobalBatch, SeedEachProcess
from trainer.checkpoints import TrainingDiverged
from trainer.data.transforms import BatchTransform
from trainer.devices import suit_cpu
from trainer.distillation.distill import Distillation, soft_predictions_of
from trainer.distillation.embeddings import AgeGenderEmbeddingModel
from trainer.distillation.teachers import SoftPredictions
from trainer.metrics import RunningScores, batch_scores
from trainer.optimizer import check_muon, l1_norm, muon_with_adamw
from trainer.resumable_trainer import ResumableTrainer
from trainer.weight_average import WeightAverage


class AgeGenderTrainer(ResumableTrainer):
    """Trains `AgeGenderModel` on batches of `trainer.data.transforms.collate_faces`."""

    model: AgeGenderModel

    def __init__(
        self,
        *args: Any,
        batch_transform: BatchTransform,
        train_resolutions: Sequence[int] = (),
        l1_penalty: float = 0.0,
        muon: bool = False,
        ema_decay: float = 0.0,
        distillation: Distillation | None = None,
        **kwargs: Any,
    ):
        """
        Args:
            batch_transform: makes pixel values of the bytes in a batch, on the device; augments them in training.
            train_resolutions: sides in pixels, each for an equal part of the training steps, in this order.
            l1_penalty: weight of the L1 norm of all matrices and filters in the training loss.
            muon: optimise with `trainer.optimizer.MuonWithAdamW` instead of `args.optim`.
            ema_decay: of the moving average of the weights, which is evaluated and kept; 0 for none.
            distillation: the teachers' part of the training loss.
        """
        super().__init__(*args, **kwargs)
        self.add_callback(GlobalBatch())
        self.add_callback(SeedEachProcess())
        suit_cpu(self.model, self.args.device, self.args.bf16)
        self.l1_penalty, self.muon = l1_penalty, muon
        self.average = WeightAverage(self.model, ema_decay) if ema_decay else None
        if self.average:
            self.add_callback(self.average)
        self.distillation = distillation
        self.batch_transform = batch_transform.to(self.args.device)
        self.train_resolutions = train_resolutions
        self._running_scores = RunningScores()

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """
        Raises:
            TrainingDiverged: a loss, an output or a weight is NaN or Inf.
            optuna.TrialPruned: the same in a trial of a search, whose sampler learns from it.
        """
        self._running_scores = RunningScores()  # a pruned trial leaves some behind
        try:
            output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
            if self.average:
                self.average.finish(self.model)
            return output
        except TrainingDiverged as error:
            if trial is None:
                raise
            from optuna import TrialPruned  # installed only by those who search

            raise TrialPruned(str(error)) from error

    def call_model_init(self, trial: Any = None) -> AgeGenderModel:
        model = cast(AgeGenderModel, super().call_model_init(trial))
        suit_cpu(model, self.args.device, self.args.bf16)
        return model

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """
        Raises:
            RecipeError: Muon together with an `optim` other than AdamW.
        """
        if self.muon and self.optimizer is None:
            check_muon(self.args)  # again: a search may vary optim
            _, adamw = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = muon_with_adamw(model or self.model, self.args.weight_decay, **adamw)
        return super().create_optimizer(model)

    def whole_model(self) -> AgeGenderModel:
        """The unwrapped model with all its weights. Under FSDP each process holds a shard of each weight only.

        All processes must call this; under FSDP only the main process gets the trained weights.
        """
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, AgeGenderEmbeddingModel):
            return model.without_head(self.accelerator.get_state_dict(self.model)).eval()
        if not self.is_fsdp_enabled:
            return model
        weights, whole = self.accelerator.get_state_dict(self.model), AgeGenderModel(model.config)
        if self.is_world_process_zero():
            whole.load_state_dict(weights)
        return whole.eval()

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable[[Any], Sampler] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        """Apply `dataloader_drop_last` to training only: a score counts every face."""
        # Trainer also drops the last batch of an evaluation:
        # https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/trainer.py#L1045
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last and is_training
        try:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, dataloader_key)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _transformed(self, inputs: dict[str, Any], *, augment: bool) -> dict[str, Any]:
        """The batch with normalised pixel values, computed on the device, in place of its bytes."""
        pixels = inputs["pixel_values"].to(self.args.device)
        size = self.resolution_at(self.state.global_step) if augment else None
        return {**inputs, "pixel_values": self.batch_transform(pixels, augment=augment, size=size)}

    def _with_soft_predictions(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As `_transformed` with augmentation, and the teachers' predictions for the same crops."""
        distillation = self.distillation
        assert distillation is not None
        inputs = {name: values.to(self.args.device) for name, values in inputs.items()}
        size = self.resolution_at(self.state.global_step) or self.batch_transform.image_size
        view_size = distillation.view_size(size)
        pixels = self.batch_transform(inputs["pixel_values"], augment=True, size=view_size)
        soft = distillation.predict(self.batch_transform.to_rgb(pixels), soft_predictions_of(inputs))
        if view_size != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return {**inputs, "pixel_values": pixels} | soft._asdict()

    def resolution_at(self, step: int) -> int | None:
        """The side in pixels of the pictures of a training step; None for the model's own.

        Small pictures teach most for a fraction of the time (Touvron et al., 2019; Tan and Le, 2021).
        """
        if not self.train_resolutions:
            return None
        stage = step * len(self.train_resolutions) // max(self.state.max_steps, 1)
        return self.train_resolutions[min(stage, len(self.train_resolutions) - 1)]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        transformed = self._with_soft_predictions if self.distillation else partial(self._transformed, augment=True)
        return super().training_step(model, transformed(inputs), num_items_in_batch)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, Any, Any]:
        """
        Raises:
            TrainingDiverged: a logit is NaN or Inf. An evaluation precedes the checkpoint of its step and may find it first.
        """
        inputs = self._transformed(inputs, augment=False)
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is not None and not all(part.isfinite().all() for part in logits):
            self._check_losses()  # which may know an earlier step
            raise TrainingDiverged(
                f"The model's outputs are NaN or Inf after step {self.state.global_step}. {self._resume_hint()}"
            )
        return loss, logits, labels

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """During training the average of the weights is evaluated, if there is one."""
        with self.average.applied_to(self.model) if self.average else nullcontext():
            return super().evaluation_loop(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        soft = soft_predictions_of(inputs)
        outputs = model(**{name: values for name, values in inputs.items() if name not in SoftPredictions._fields})
        losses = {"age_loss": outputs.age_loss, "gender_loss": outputs.gender_loss}
        loss = outputs.loss
        if self.distillation and soft:
            losses["soft_loss"] = self.distillation.soft_loss(outputs, soft)
            loss = self.distillation.loss(outputs, losses["soft_loss"])
        self._running_scores.add_losses("train" if model.training else "eval", losses)
        if model.training:
            labels = (inputs["age_labels"], inputs["gender_labels"])
            self._running_scores.add_scores(batch_scores(outputs.age_logits, outputs.gender_logits, *labels))
            if self.l1_penalty:
                loss = loss + self.l1_penalty * l1_norm(self.model)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add `age_loss`, `gender_loss` and, with teachers, `soft_loss`, the means since the last log, to every record that
        has a loss.

        Training records also get `age_mae` and `gender_accuracy`, measured on the augmented training batches.
        `logs` is changed in place, as `Trainer.log` does: `evaluate` returns it, and `metric_for_best_model` may be one
        of the losses.
        """
        if "train_loss" in logs:  # the last record of a training
            self._check_losses()
        gather = self.accelerator.gather
        if "loss" in logs:
            logs |= self._running_scores.pop_losses("train", gather) | self._running_scores.pop_scores(gather)
        if "eval_loss" in logs:
            means = self._running_scores.pop_losses("eval", gather)
            logs |= {f"eval_{name}": mean for name, mean in means.items()}
        super().log(logs, start_time)
