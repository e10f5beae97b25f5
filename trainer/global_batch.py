"""A run goes on with as many pictures a step as it was begun with, on however many processes."""

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from trainer.checkpoints import CheckpointError


class GlobalBatch(TrainerCallback, ExportableState):
    """Remembers in every checkpoint how many pictures a step takes, and compares when a run goes on.

    With other steps an epoch the Trainer would take the checkpoint for one of another epoch, without a word.
    """

    def __init__(self):
        self.size = 0

    def on_train_begin(self, args, state, control, **kwargs):
        """
        Raises:
            CheckpointError: the run was begun with steps of another size.
        """
        self.size = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        # 0 in checkpoints of older versions; of a new training it is what the trainer's last one had
        begun = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {}).get("size", 0)
        state.stateful_callbacks[type(self).__name__] = self.state()
        if state.global_step and begun not in (0, self.size):
            raise CheckpointError(
                f"The run was begun with a global batch of {begun}, this start has {self.size} (processes x "
                f"per_device_train_batch_size x gradient_accumulation_steps = {args.world_size} x "
                f"{args.train_batch_size} x {args.gradient_accumulation_steps}). Change one so that it is {begun} again."
            )

    def state(self) -> dict:
        return {"args": {}, "attributes": {"size": self.size}}
