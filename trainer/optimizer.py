"""Muon for the matrices and filters inside the network, AdamW for all other parameters, as one optimizer."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import EarlyStoppingCallback, TrainingArguments

from trainer.recipe import RecipeError


HEADS = ("age_head.", "gender_head.")


class MuonWithAdamW(torch.optim.AdamW):
    """Parameters in groups with `muon: True` are moved by Muon (Jordan et al., 2024), the others by AdamW.

    Muon steps along the momentum with all its singular values made equal, so that rare directions learn as fast as
    common ones. A step is scaled to the size AdamW's would have, so that both share one learning rate and weight decay
    (Liu et al., "Muon is Scalable for LLM Training", 2025). torch.optim.Muon takes matrices only; here a convolution's
    filters (out, in, k, k) count as the matrix (out, in * k * k).
    """

    def __init__(self, params, *, momentum: float = 0.95, **adamw):
        """`adamw`: what torch.optim.AdamW takes."""
        super().__init__(params, **adamw)
        self.momentum = momentum
        # fused AdamW skips the steps of fp16 that overflow by itself, and is called for each; Muon must not be
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure and torch.enable_grad()(closure)()
        for group in self.param_groups:
            if group.get("muon"):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._orthogonal_step(parameter, group["lr"], group["weight_decay"])
                        parameter.grad = None  # AdamW passes over what has no gradient
        super().step()
        return loss

    def _orthogonal_step(self, parameter: torch.Tensor, rate: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # AdamW asks for it when a checkpoint is loaded
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] += 1
        buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - self.momentum)
        nesterov = parameter.grad.lerp(buffer, self.momentum)
        direction = orthogonalize(nesterov.flatten(1))
        parameter.mul_(1 - rate * weight_decay)
        parameter.add_(direction.view_as(parameter), alpha=-rate * 0.2 * max(direction.shape) ** 0.5)


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """(M, N) -> (M, N) with the same singular vectors and singular values near 1 (0.7 to 1.2), never exactly.

    Five Newton-Schulz steps in bfloat16 with Jordan's coefficients (https://kellerjordan.github.io/posts/muon).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).to(matrix.dtype)


def muon_with_adamw(model: nn.Module, weight_decay: float, **adamw) -> MuonWithAdamW:
    """The optimizer of all parameters of a vision model with heads.

    Heads, position embeddings and the filters that read the picture or one channel alone stay with AdamW; biases,
    normalisations, tokens and positions are not decayed.
    """
    inner, outer, undecayed = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or name.endswith(("_token", "position_embeddings")):
            undecayed.append(parameter)
        elif name.startswith(HEADS) or (parameter.ndim == 4 and parameter.shape[1] <= 3):
            outer.append(parameter)
        else:
            inner.append(parameter)
    groups = [
        {"params": inner, "weight_decay": weight_decay, "muon": True},
        {"params": outer, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return MuonWithAdamW([group for group in groups if group["params"]], **adamw)


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
