"""How the weights are learnt: Muon for the matrices and filters inside the network with AdamW for the rest, as one
optimizer; an L1 penalty; and the arguments of a recipe that choose them, with early stopping.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from trainer.callbacks import EarlyStopping
from trainer.devices import is_sharded
from trainer.recipe import RecipeError


HEADS = ("age_head.", "gender_head.", "embedding_head.")


@dataclass
class LearningArguments:
    """Muon, averaged weights, early stopping and L1 regularisation.

    The other regularisation: dropout is `head_dropout` and the backbone's own, weight decay is `weight_decay`.
    """

    muon: bool = field(
        default=False,
        metadata={
            "help": "Update matrices and filters with Muon, the rest with AdamW: training from scratch needs far fewer "
            "epochs. learning_rate and weight_decay hold for both."
        },
    )
    ema_decay: float = field(
        default=0.0,
        metadata={
            "help": "Evaluate and save an exponential moving average of the weights, such as 0.9998 for about the last "
            "5,000 steps; 0 for the weights themselves."
        },
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations in a row without an improvement."}
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "The smallest change of metric_for_best_model that counts as an improvement."}
    )
    l1_penalty: float = field(
        default=0.0, metadata={"help": "Weight of the L1 norm of all matrices and filters in the loss."}
    )

    def __post_init__(self) -> None:
        """
        Raises:
            RecipeError: a value is out of its range.
        """
        if not 0 <= self.ema_decay < 1:
            raise RecipeError(f"ema_decay must be 0 or more and below 1, got {self.ema_decay}.")
        if self.l1_penalty < 0:
            raise RecipeError(f"l1_penalty must be 0 or more, got {self.l1_penalty}.")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise RecipeError(f"early_stopping_patience must be 1 or more, got {self.early_stopping_patience}.")

    def check(self, training_args: TrainingArguments, *, embeds: bool) -> None:
        """
        Args:
            embeds: whether the model learns embeddings too.

        Raises:
            RecipeError: early stopping without the arguments that say which evaluation is the best one; Muon with another
                optimizer than AdamW; averaged weights or embeddings under FSDP, where a process holds shards of the weights.
        """
        knows_best = training_args.load_best_model_at_end and training_args.metric_for_best_model
        if self.early_stopping_patience is not None and not knows_best:
            raise RecipeError(
                "early_stopping_patience needs load_best_model_at_end: true and metric_for_best_model (such as age_mae)."
            )
        if self.muon:
            check_muon(training_args)
        if is_sharded() and (self.ema_decay or embeds):
            raise RecipeError("ema_decay and embeddings do not go with FSDP. Leave them out.")

    def callbacks(self) -> list[EarlyStopping]:
        if self.early_stopping_patience is None:
            return []
        return [EarlyStopping(self.early_stopping_patience, self.early_stopping_threshold)]


def check_muon(training_args: TrainingArguments) -> None:
    """
    Raises:
        RecipeError: `optim` names another optimizer than AdamW, for the parameters that Muon leaves.
    """
    optim = OptimizerNames(training_args.optim).value
    if not optim.startswith("adamw_torch"):
        raise RecipeError(f"muon: true expects AdamW for the other parameters, got optim: {optim}. Leave out optim.")


class MuonWithAdamW(torch.optim.AdamW):
    """Updates parameter groups with `muon: True` by Muon (Jordan et al., 2024), the others by AdamW.

    Muon orthogonalises the momentum: all its singular values become about equal, so that rare directions learn as fast
    as common ones. An update is scaled to the root mean square of AdamW's, so that both share one learning rate and
    weight decay (Liu et al., "Muon is Scalable for LLM Training", 2025). torch.optim.Muon takes matrices only; here the
    filters of a convolution (out, in, k, k) count as the matrix (out, in * k * k).
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, momentum: float = 0.95, **adamw: Any):
        """
        Args:
            params: parameter groups; those with `muon: True` hold tensors of two or more dimensions.
            adamw: arguments of torch.optim.AdamW.
        """
        super().__init__(params, **adamw)
        self.momentum = momentum
        # GradScaler calls an optimizer with this flag, such as fused AdamW, at overflowing fp16 steps too, which the fused
        # kernel skips; Muon's update would not.
        # https://github.com/pytorch/pytorch/blob/v2.13.0/torch/amp/grad_scaler.py#L418-L428
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloads
        loss = closure and torch.enable_grad()(closure)()
        for group in self.param_groups:
            if group.get("muon"):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._orthogonal_step(parameter, parameter.grad, group["lr"], group["weight_decay"])
                        parameter.grad = None  # AdamW skips parameters without a gradient
        super().step()
        return loss

    def _orthogonal_step(
        self, parameter: torch.Tensor, gradient: torch.Tensor, rate: float, weight_decay: float
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # AdamW expects it when a checkpoint is loaded
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["step"] += 1
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - self.momentum)
        nesterov = gradient.lerp(buffer, self.momentum)
        direction = orthogonalize(nesterov.flatten(1))
        parameter.mul_(1 - rate * weight_decay)
        parameter.add_(direction.view_as(parameter), alpha=-rate * 0.2 * max(direction.shape) ** 0.5)


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """(M, N) -> (M, N) with the same singular vectors, and singular values between about 0.7 and 1.2.

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


def muon_with_adamw(model: nn.Module, weight_decay: float, **adamw: Any) -> MuonWithAdamW:
    """The optimizer of all parameters of `model`.

    AdamW updates the heads, and the filters that read the picture (3 channels) or a single channel (depthwise). It also
    updates biases, normalisations, tokens and position embeddings, without weight decay. Muon updates all the rest.
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


def l1_norm(model: torch.nn.Module) -> torch.Tensor:
    """Sum of the absolute weights of all matrices and filters, without biases and normalisations; () on their device."""
    norms = [weights.abs().sum() for weights in model.parameters() if weights.dim() > 1]
    # under FSDP a process holds a shard of each weight
    return torch.stack([norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]).sum()
