"""The trainer's own ways, where a whole run would show no more."""

import pytest
import torch
from transformers import TrainerControl, TrainerState

from tests.tiny_model import IMAGE_SIZE, tiny_model
from trainer.age_gender_trainer import AgeGenderTrainer, batch_scores
from trainer.global_batch import GlobalBatch
from trainer.race_head import AgeGenderRaceModel
from trainer.run_arguments import RunArguments
from trainer.transforms import AugmentationArguments, BatchTransform


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


@pytest.mark.parametrize("race_loss_weight", [0.0, 0.5])
def test_a_step_asks_the_device_for_no_value(race_loss_weight):
    """A GPU would stand idle while it is waited for. The meta device has none to give, and says so when it is asked."""
    model = tiny_model(range_loss_weight=1.0, age_weights=[1.0] * 101)
    if race_loss_weight:
        model = AgeGenderRaceModel.around(model, race_loss_weight)
    model = model.train().to("meta")
    transform = BatchTransform(IMAGE_SIZE, [0.5] * 3, [0.5] * 3, AugmentationArguments(blur=0.5)).to("meta")
    pixels = torch.empty((8, 3, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE), dtype=torch.uint8, device="meta")
    ages, genders, races = (torch.zeros(8, dtype=torch.long, device="meta") for _ in range(3))
    labels = {"age_labels": ages, "gender_labels": genders} | ({"races": races} if race_loss_weight else {})
    output = model(transform(pixels, augment=True), **labels)
    output.loss.backward()
    batch_scores(output, ages, genders)
    assert all(parameter.grad is not None for parameter in model.parameters())
