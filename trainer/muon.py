"""Muon for the matrices and filters inside the network, AdamW for all other parameters, as one optimizer."""

import torch
from torch import nn


HEADS = ("age_head.", "gender_head.", "race_head.")


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
