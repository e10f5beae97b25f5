"""The trainer's own ways, where a whole run would show no more."""

from transformers import TrainerControl, TrainerState

from tests.tiny_model import IMAGE_SIZE, tiny_model
from trainer.age_gender_trainer import AgeGenderTrainer
from trainer.global_batch import GlobalBatch
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
