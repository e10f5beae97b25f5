"""A run goes on with as many pictures a step and steps an epoch as it was begun with, on however many processes."""

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import has_length

from trainer.checkpoints import CheckpointError


class GlobalBatch(TrainerCallback, ExportableState):
    """Remembers in every checkpoint how many pictures a step takes and an epoch steps, and compares when a run goes on.

    With other steps an epoch the Trainer would take the checkpoint for one of another epoch, without a word.
    """

    def __init__(self):
        self.size = self.steps = 0

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """
        Raises:
            CheckpointError: the run was begun with steps of another size, or another number of them an epoch.
        """
        self.size = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        # 0 of a stream, whose length nobody knows
        self.steps = (
            -(-len(train_dataloader) // args.gradient_accumulation_steps) if has_length(train_dataloader) else 0
        )
        # 0 in checkpoints of older versions; of a new training it is what the trainer's last one had
        saved = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {})
        begun, begun_steps = saved.get("size", 0), saved.get("steps", 0)
        state.stateful_callbacks[type(self).__name__] = self.state()
        if state.global_step and begun not in (0, self.size):
            raise CheckpointError(
                f"The run was begun with a global batch of {begun}, this start has {self.size} (processes x "
                f"per_device_train_batch_size x gradient_accumulation_steps = {args.world_size} x "
                f"{args.train_batch_size} x {args.gradient_accumulation_steps}). Change one so that it is {begun} again."
            )
        if state.global_step and begun_steps not in (0, self.steps):
            raise CheckpointError(
                f"The run was begun with {begun_steps} steps an epoch, this start has {self.steps}: other pictures are "
                "trained on (dataset, max_samples, also_train_on, repeat), or dataloader_drop_last differs."
            )

    def state(self) -> dict:
        return {"args": {}, "attributes": {"size": self.size, "steps": self.steps}}
