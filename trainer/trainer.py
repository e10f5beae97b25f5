"""The Hugging Face Trainer with batched augmentation, both heads' losses in its log, and checkpoints that restore."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import has_length

from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput
from trainer.callbacks import GlobalBatch
from trainer.checkpoints import CheckpointError, TrainingDiverged, way_back
from trainer.data.transforms import BatchTransform
from trainer.devices import keep_freed_memory
from trainer.optimizer import l1_norm, muon_with_adamw
from trainer.recipe import RecipeError


logger = logging.getLogger(__name__)
LOSSES_CHECKED_TOGETHER = 20


class AgeGenderTrainer(Trainer):
    """Trains `AgeGenderModel` on batches of `trainer.data.transforms.collate_faces`.

    On a CPU the process keeps the memory that it frees from then on: see trainer.devices.
    """

    def __init__(
        self,
        *args,
        batch_transform: BatchTransform,
        train_resolutions: Sequence[int] = (),
        l1_penalty: float = 0.0,
        muon: bool = False,
        **kwargs,
    ):
        """
        Args:
            train_resolutions: sides in pixels that share the training's steps evenly, one after the other.
            l1_penalty, muon: see trainer.optimizer.
        """
        super().__init__(*args, **kwargs)
        self.add_callback(GlobalBatch())
        self._choose_attention(self.model)
        if self.args.device.type == "cpu":
            keep_freed_memory()
        self.l1_penalty, self.muon = l1_penalty, muon
        self.batch_transform = batch_transform.to(self.args.device)
        self.train_resolutions = train_resolutions
        self._forget()

    def _forget(self) -> None:
        """What is kept between logs and checks; a trial of a search that was given up leaves some to the next."""
        self._head_losses: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._train_scores: list[torch.Tensor] = []
        self._unchecked_losses: list[tuple[int, torch.Tensor]] = []

    def call_model_init(self, trial=None):
        model = super().call_model_init(trial)
        self._choose_attention(model)
        return model

    def _choose_attention(self, model: AgeGenderModel) -> None:
        """On a CPU in bf16 torch's fused attention is slow, backwards above all: a third of ViT-Tiny's time at 112 px."""
        if self.args.device.type == "cpu" and self.args.bf16:
            model.set_attn_implementation("eager")

    def _get_dataloader(self, *args, is_training=False, **kwargs):
        """`dataloader_drop_last` is for training: of what is measured every picture counts."""
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last and is_training
        try:
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def _prepare_for_training(self, *args, **kwargs):
        """From here on each process varies its pictures and drops out by numbers of its own.

        All were seeded alike, for the same initial weights. Process 0 stays as it is, so that one process alone gives
        what it always gave; where a run is resumed, each process reads its saved state later.
        """
        self._forget()
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.args.process_index:
            torch.manual_seed(self.args.seed + self.args.process_index)
        _, dataloader = prepared
        if not has_length(dataloader) and (self.state.epoch or 0) > 1:  # max_steps count as one epoch of a stream
            logger.warning(
                "The run was stopped after its first pass over the stream, whose length nobody knows: it goes on with the "
                "beginning of a pass, and sees the pictures in another order than it would have."
            )
        return prepared

    def create_optimizer(self, model=None):
        """
        Raises:
            RecipeError: Muon together with an `optim` other than AdamW.
        """
        if self.muon and self.optimizer is None:
            if not self.args.optim.startswith("adamw_torch"):
                raise RecipeError(
                    f"muon goes with AdamW for the other parameters: leave out optim: {self.args.optim.value}."
                )
            _, adamw = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = muon_with_adamw(model or self.model, self.args.weight_decay, **adamw)
        return super().create_optimizer(model)

    def _prepare_inputs(self, inputs):
        """Bytes travel to the device as they are and become varied, normalised pictures there."""
        inputs = super()._prepare_inputs(inputs)
        training = self.model.training
        size = self.resolution_at(self.state.global_step) if training else None
        return {**inputs, "pixel_values": self.batch_transform(inputs["pixel_values"], augment=training, size=size)}

    def resolution_at(self, step: int) -> int | None:
        """Small pictures teach most for a fraction of the time (Touvron et al., 2019; Tan and Le, 2021)."""
        if not self.train_resolutions:
            return None
        stage = step * len(self.train_resolutions) // max(self.state.max_steps, 1)
        return self.train_resolutions[min(stage, len(self.train_resolutions) - 1)]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        mode = "train" if model.training else "eval"
        self._head_losses[mode].append(torch.stack([outputs.age_loss, outputs.gender_loss]).detach())
        loss = outputs.loss
        if model.training:
            self._train_scores.append(batch_scores(outputs, inputs["age_labels"], inputs["gender_labels"]))
            if self.l1_penalty:
                loss = loss + self.l1_penalty * l1_norm(self.model)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        """Add `age_loss` and `gender_loss`, the means since the last log, to every record that has a loss.

        To those of training also `age_mae` and `gender_accuracy`, on the varied pictures that the model learnt from.
        """
        for mode, prefix in (("train", ""), ("eval", "eval_")):
            if f"{prefix}loss" in logs and self._head_losses[mode]:
                means = torch.stack(self._head_losses.pop(mode)).mean(dim=0, keepdim=True)
                age_loss, gender_loss = self.accelerator.gather(means).view(-1, 2).mean(dim=0).tolist()
                logs |= {f"{prefix}age_loss": age_loss, f"{prefix}gender_loss": gender_loss}
        if "loss" in logs and self._train_scores:
            scores = torch.stack(self._train_scores).sum(dim=0, keepdim=True)
            self._train_scores = []
            error, ages, hits, genders = self.accelerator.gather(scores).view(-1, 4).sum(dim=0).tolist()
            logs |= ({"age_mae": error / ages} if ages else {}) | (
                {"gender_accuracy": hits / genders} if genders else {}
            )
        super().log(logs, start_time)

    # Checkpoints carry the Hub's key names, and the Trainer reads them back with strict=False: the backbone would
    # silently keep its last weights (https://github.com/huggingface/transformers/issues/43701).

    def _load_best_model(self):
        if self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        restored, loading = type(self.model).from_pretrained(
            resume_from_checkpoint, config=self.model.config, output_loading_info=True, ignore_mismatched_sizes=True
        )
        shapes = [f"{name} {list(saved)} for {list(own)}" for name, saved, own in loading["mismatched_keys"]]
        others = [*shapes, *loading["missing_keys"], *loading["unexpected_keys"]]
        if others:
            raise CheckpointError(
                f"{resume_from_checkpoint} holds another architecture than the recipe describes: {len(others)} weights "
                f"differ, such as {others[0]}. Resume with the recipe it was trained by."
            )
        (model or self.model).load_state_dict(restored.state_dict(), strict=True)

    def whole_model(self) -> AgeGenderModel:
        """The model in one piece, to calibrate and to publish: under FSDP a process holds a share of each weight only.

        To be called in every process; under FSDP only the main process gets the trained weights.
        """
        model = self.accelerator.unwrap_model(self.model)
        if not self.is_fsdp_enabled:
            return model
        weights, whole = self.accelerator.get_state_dict(self.model), AgeGenderModel(model.config)
        if self.is_world_process_zero():
            whole.load_state_dict(weights)
        return whole.eval()

    def _run_epoch(self, *args, **kwargs):
        if self.state.global_step >= self.state.max_steps:  # else a run resumed at its end would train a step more
            self.control.should_training_stop = True
        if not self.control.should_training_stop:  # a resumed run that early stopping had ended trains no further
            super()._run_epoch(*args, **kwargs)

    def _finalize_training(self, *args, **kwargs):
        self._check_losses()
        return super()._finalize_training(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self._unchecked_losses.append((self.state.global_step + 1, loss))
        if len(self._unchecked_losses) == LOSSES_CHECKED_TOGETHER:
            self._check_losses()
        return loss

    def _check_losses(self) -> None:
        """Not at every step: to look at a loss is to wait for the GPU, which has nothing to do meanwhile.

        Raises:
            TrainingDiverged: a loss since the last look is no number.
        """
        unchecked, self._unchecked_losses = self._unchecked_losses, []
        if unchecked and not torch.stack([loss for _, loss in unchecked]).isfinite().all():
            step, loss = next((step, loss) for step, loss in unchecked if not loss.isfinite())
            raise TrainingDiverged(f"The loss is {loss.item()} at step {step}. {self._way_back()}")

    def prediction_step(self, *args, **kwargs):
        """Evaluations come before checkpoints: they may be the first to meet a training that diverged."""
        loss, logits, labels = super().prediction_step(*args, **kwargs)
        if logits is not None and not all(part.isfinite().all() for part in logits):
            self._check_losses()  # which may know an earlier step
            raise TrainingDiverged(
                f"The model's answers are no numbers any more after step {self.state.global_step}. {self._way_back()}"
            )
        return loss, logits, labels

    def _save_checkpoint(self, model, trial):
        step = self.state.global_step
        self._check_losses()
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            raise TrainingDiverged(f"Weights are no numbers any more after step {step}. {self._way_back()}")
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # what a full disk comes out as
            raise CheckpointError(
                f"The checkpoint of step {step} could not be written to {self.args.output_dir}: {error}. Is the disk "
                f"full? {self._way_back()}"
            ) from error

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # what is written next says that all have written theirs

    def _way_back(self) -> str:
        return way_back(Path(self.args.output_dir))


@torch.no_grad()
def batch_scores(outputs: AgeGenderOutput, age_labels: torch.Tensor, gender_labels: torch.Tensor) -> torch.Tensor:
    """(4,): sum of the age errors in years, number of exact ages, of right genders, of labelled genders.

    The age is the year in which the median lies. age_labels: (B,) years or (B, 2) ranges; -100 where unknown.
    """
    low, high = age_labels.expand(2, -1) if age_labels.ndim == 1 else age_labels.T
    is_exact, is_labelled = (low >= 0) & (low == high), gender_labels >= 0
    years = (outputs.age_logits.float().softmax(dim=-1).cumsum(dim=-1) < 0.5).sum(dim=-1)
    is_right = outputs.gender_logits.argmax(dim=-1) == gender_labels
    parts = ((years - low).abs() * is_exact, is_exact, is_right & is_labelled, is_labelled)
    return torch.stack([part.sum() for part in parts]).float()
