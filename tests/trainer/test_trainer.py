"""`AgeGenderTrainer` in parts that a whole run does not show."""

import pytest
import torch
from datasets import Dataset
from transformers import TrainerControl, TrainerState

from tests.support.tiny_model import IMAGE_SIZE, tiny_model
from trainer.arguments import RunArguments
from trainer.callbacks import GlobalBatch
from trainer.data.transforms import AugmentationArguments, BatchTransform, collate_faces
from trainer.metrics import batch_scores
from trainer.trainer import AgeGenderTrainer


def test_models_of_a_search_have_the_attention_of_the_recipes_own(tmp_path):
    trainer = AgeGenderTrainer(
        model=tiny_model(),
        args=RunArguments(output_dir=str(tmp_path), use_cpu=True, bf16=True, report_to="none"),
        batch_transform=BatchTransform(IMAGE_SIZE, [0.5] * 3, [0.5] * 3, AugmentationArguments()),
    )
    trainer.model_init = lambda: tiny_model()
    assert tiny_model().backbone.config._attn_implementation == "sdpa"
    assert trainer.model.backbone.config._attn_implementation == "eager"
    assert trainer.call_model_init().backbone.config._attn_implementation == "eager"


def test_the_next_trial_of_a_search_may_have_another_global_batch(tmp_path):
    remembered = GlobalBatch()
    for batch in (8, 16):
        args = RunArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=batch)
        state = TrainerState(stateful_callbacks=[remembered])
        remembered.on_train_begin(args, state, TrainerControl())
        assert state.stateful_callbacks["GlobalBatch"]["attributes"]["size"] == batch


def test_transform_model_and_scores_force_no_synchronisation():
    """Reading a value forces a synchronisation. The meta device holds no values, and raises when one is read."""
    model = tiny_model(range_loss_weight=1.0, age_weights=[1.0] * 117).train().to("meta")
    transform = BatchTransform(IMAGE_SIZE, [0.5] * 3, [0.5] * 3, AugmentationArguments(blur=0.5)).to("meta")
    pixels = torch.empty((8, 3, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE), dtype=torch.uint8, device="meta")
    ages, genders = (torch.zeros(8, dtype=torch.long, device="meta") for _ in range(2))
    output = model(transform(pixels, augment=True), age_labels=ages, gender_labels=genders)
    output.loss.backward()
    batch_scores(output.age_logits, output.gender_logits, ages, genders)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("use_cpu", [True, False])
def test_no_default_forces_a_synchronisation_at_each_step(tmp_path, use_cpu):
    args = RunArguments(output_dir=str(tmp_path), use_cpu=use_cpu)
    assert not args.logging_nan_inf_filter  # which reads each loss
    assert args.accelerator_config.non_blocking == args.dataloader_pin_memory  # without the one the other warns
    assert not (args.device.type == "cpu" and args.dataloader_pin_memory)  # torch would warn in every epoch
    kept = RunArguments(output_dir=str(tmp_path), use_cpu=use_cpu, accelerator_config={"split_batches": False})
    assert not kept.accelerator_config.non_blocking


def count_tensors(value):
    if isinstance(value, dict | list | tuple):
        return sum(map(count_tensors, value.values() if isinstance(value, dict) else value))
    return int(isinstance(value, torch.Tensor))


class CheckCounter(AgeGenderTrainer):
    """Remembers how many losses each check read, and how many tensors the Trainer held at each step."""

    def _check_losses(self):
        self.checked = [*getattr(self, "checked", []), len(self._unchecked_losses)]
        super()._check_losses()

    def training_step(self, *args, **kwargs):
        self.held = [*getattr(self, "held", []), count_tensors(vars(self))]
        return super().training_step(*args, **kwargs)


def test_losses_are_checked_together_and_do_not_pile_up(tmp_path):
    rows = [{"pixels": bytes([shade]) * (3 * IMAGE_SIZE**2), "age": shade, "gender": shade % 2} for shade in range(50)]
    trainer = CheckCounter(
        model=tiny_model(),
        args=RunArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            max_steps=25,
            per_device_train_batch_size=2,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        data_collator=collate_faces,
        batch_transform=BatchTransform(IMAGE_SIZE, [0.5] * 3, [0.5] * 3, AugmentationArguments()),
    )
    trainer.train()
    assert trainer.checked == [20, 5]
    assert trainer.held[22] == trainer.held[2] > 0  # as many steps after a check
