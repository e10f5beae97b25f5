"""An auxiliary head that predicts an identity embedding of the face: it shapes the backbone, and is thrown away."""

import copy

import torch
from torch import nn

from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput


HEAD = "embedding_head."


class AgeGenderEmbeddingModel(AgeGenderModel):
    """Learns embeddings of another network beside age and gender. What is saved after the training has two heads."""

    _auto_class = None  # only checkpoints hold it: nobody loads its code from the Hub
    embedding_loss_weight = 1.0

    def __init__(self, config):
        super().__init__(config)
        self.embedding_head = nn.Linear(self.age_head.in_features, config.embedding_size)
        self.post_init()

    @classmethod
    def around(cls, model: AgeGenderModel, size: int, loss_weight: float) -> "AgeGenderEmbeddingModel":
        """`model` with an untrained head for embeddings of `size` numbers."""
        config = copy.deepcopy(model.config)
        config.embedding_size = size
        three_headed = cls(config)
        three_headed.load_state_dict(model.state_dict(), strict=False)
        three_headed.embedding_loss_weight = loss_weight
        return three_headed

    def forward(
        self,
        pixel_values: torch.FloatTensor,
        age_labels: torch.LongTensor | None = None,
        gender_labels: torch.LongTensor | None = None,
        embeddings: torch.FloatTensor | None = None,
        **wanted,
    ) -> AgeGenderOutput:
        """
        Args:
            embeddings: (B, size), standardised; NaN where there is none. Read in training only, where the loss grows by
                `embedding_loss_weight` times the mean squared error.
        """
        if not self.training or embeddings is None:
            return super().forward(pixel_values, age_labels, gender_labels, **wanted)
        pooled = []
        with self.dropout.register_forward_hook(lambda module, inputs, output: pooled.append(output)):
            output = super().forward(pixel_values, age_labels, gender_labels, **wanted)
        loss = embedding_loss(self.embedding_head(pooled[0]), embeddings)
        output.loss = output.loss + self.embedding_loss_weight * loss
        return output

    def without_head(self, weights: dict[str, torch.Tensor]) -> AgeGenderModel:
        """The model that is measured and published, with `weights` of this one."""
        config = copy.deepcopy(self.config)
        del config.embedding_size
        model = AgeGenderModel(config)
        model.load_state_dict({name: values for name, values in weights.items() if not name.startswith(HEAD)})
        return model


def embedding_loss(predicted: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the faces that have an embedding; 0 (with a gradient) where a batch has none."""
    known = ~embeddings.isnan().any(dim=1)
    errors = (predicted.float() - embeddings.nan_to_num()).square().mean(dim=1)
    return (errors * known).sum() / known.sum().clamp(min=1)
