"""Save a network that another project trained as a backbone to fine-tune."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from model.face_alignment import resize_square
from model.model_files import follow_umask
from trainer.build_model import make_image_processor
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.rows import load_row_picture


def save_backbone(
    backbone: PreTrainedModel, folder: str | Path, data_args: DataArguments, image_size: int, faces: int
) -> None:
    """Measure the backbone's batch normalisations on training faces, then write it with its preprocessing.

    Args:
        image_size: side in pixels that it will be fine-tuned at.
        faces: how many training faces, at most.
    """
    processor = make_image_processor(image_size)
    train = load_faces(data_args, seed=0)["train"]
    crops = [resize_square(load_row_picture(row), image_size) for row in train.select(range(min(faces, len(train))))]
    measure_batch_norms(backbone, processor(crops, return_tensors="pt")["pixel_values"])
    backbone.save_pretrained(folder)
    follow_umask(folder)
    processor.save_pretrained(folder)
    weights = sum(parameter.numel() for parameter in backbone.parameters())
    print(f"{folder}: {type(backbone).__name__} of {weights:,} weights.")


@torch.no_grad()
def measure_batch_norms(backbone: PreTrainedModel, pixel_values: torch.Tensor, batch_size: int = 64) -> None:
    """Give every batch normalisation the mean and variance of what it sees in these pictures, and leave its output as is.

    Without that a training step, which normalises by the batch's own statistics, would compute another network.

    Args:
        pixel_values: (N, 3, S, S), normalised.
    """
    sums: dict[nn.BatchNorm2d, list[torch.Tensor]] = {}

    def add(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        values = inputs[0].double()
        moments = torch.stack([values.mean(dim=(0, 2, 3)), values.square().mean(dim=(0, 2, 3))]) * len(values)
        sums.setdefault(norm, []).append(moments)

    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(add) for norm in norms]
    for batch in pixel_values.split(batch_size):
        backbone(batch)
    for hook in hooks:
        hook.remove()
    for norm, parts in sums.items():
        mean, square = torch.stack(parts).sum(dim=0) / len(pixel_values)
        # a channel that is constant in these pictures must not be divided by nothing
        variance = (square - mean.square()).clamp(min=1e-4)
        assert norm.running_mean is not None, "these networks keep statistics"
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
