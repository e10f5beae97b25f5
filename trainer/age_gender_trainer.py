"""The Hugging Face Trainer with batched augmentation, both heads' losses in its log, and checkpoints that restore."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import Trainer

from trainer.transforms import BatchTransform


class AgeGenderTrainer(Trainer):
    """Trains `AgeGenderModel` on batches of `trainer.transforms.collate_faces`."""

    def __init__(self, *args, batch_transform: BatchTransform, train_resolutions: Sequence[int] = (), **kwargs):
        """`train_resolutions`: sides in pixels that share the training's steps evenly, one after the other."""
        super().__init__(*args, **kwargs)
        self.batch_transform = batch_transform.to(self.args.device)
        self.train_resolutions = train_resolutions
        self._head_losses: dict[str, list[torch.Tensor]] = defaultdict(list)

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
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs, start_time=None):
        """Add `age_loss` and `gender_loss`, the means since the last log, to every record that has a loss."""
        for mode, prefix in (("train", ""), ("eval", "eval_")):
            if f"{prefix}loss" in logs and self._head_losses[mode]:
                means = torch.stack(self._head_losses.pop(mode)).mean(dim=0, keepdim=True)
                age_loss, gender_loss = self.accelerator.gather(means).view(-1, 2).mean(dim=0).tolist()
                logs |= {f"{prefix}age_loss": age_loss, f"{prefix}gender_loss": gender_loss}
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
        restored = type(self.model).from_pretrained(resume_from_checkpoint, config=self.model.config)
        (model or self.model).load_state_dict(restored.state_dict(), strict=True)
