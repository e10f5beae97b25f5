"""How a run learns, beside what TrainingArguments say: its optimizer, early stopping and L1."""

from dataclasses import dataclass, field

import torch
from torch.distributed.tensor import DTensor
from transformers import EarlyStoppingCallback, TrainingArguments

from trainer.recipe import RecipeError


@dataclass
class LearningArguments:
    """Muon, early stopping and L1. Dropout is `head_dropout` and the backbone's own; weight decay is `weight_decay`."""

    muon: bool = field(
        default=False,
        metadata={
            "help": "Move matrices and filters by Muon, the rest by AdamW: from scratch a pass teaches far more. "
            "learning_rate and weight_decay hold for both."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations in a row without a better one."}
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "How much better metric_for_best_model must be to count."}
    )
    l1_penalty: float = field(
        default=0.0, metadata={"help": "Added to the loss: this much times the sum of all absolute weights."}
    )

    def __post_init__(self):
        if self.l1_penalty < 0:
            raise RecipeError(f"l1_penalty must be 0 or more, got {self.l1_penalty}.")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise RecipeError(f"early_stopping_patience must be 1 or more, got {self.early_stopping_patience}.")

    def callbacks(self, training_args: TrainingArguments) -> list[EarlyStoppingCallback]:
        """
        Raises:
            RecipeError: it could not be told which evaluation is the best one.
        """
        if self.early_stopping_patience is None:
            return []
        if not (training_args.load_best_model_at_end and training_args.metric_for_best_model):
            raise RecipeError(
                "early_stopping_patience needs load_best_model_at_end: true and metric_for_best_model (such as age_mae)."
            )
        return [EarlyStopping(self.early_stopping_patience, self.early_stopping_threshold)]


class EarlyStopping(EarlyStoppingCallback):
    """Goes on counting where the checkpoint was that a run goes on from.

    Not by `restore_callback_states_from_checkpoint`, which would make every callback anew by its saved arguments.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        self.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


def l1_norm(model: torch.nn.Module) -> torch.Tensor:
    """Sum of the absolute weights of all matrices and filters; biases and normalisations are left free."""
    norms = [weights.abs().sum() for weights in model.parameters() if weights.dim() > 1]
    # under FSDP a process holds a share of each weight
    return torch.stack([norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]).sum()
