"""An auxiliary head that predicts an identity embedding of the face: it shapes the backbone, and is thrown away."""

import copy

import torch
from torch import nn

from model.configuration_age_gender import AgeGenderConfig
from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput


HEAD = "embedding_head."
SIZE = "embedding_size"  # in the configuration of a checkpoint


class AgeGenderEmbeddingModel(AgeGenderModel):
    """Learns embeddings of another network beside age and gender. What is saved after the training has two heads."""

    _auto_class = None  # only checkpoints hold it: nobody loads its code from the Hub
    embedding_loss_weight = 1.0

    def __init__(self, config: AgeGenderConfig):
        """
        Args:
            config: with a value `embedding_size` beside its own.
        """
        super().__init__(config)
        self.embedding_head = nn.Linear(self.age_head.in_features, getattr(config, SIZE))
        self.post_init()

    @classmethod
    def around(cls, model: AgeGenderModel, size: int, loss_weight: float) -> "AgeGenderEmbeddingModel":
        """`model` with an untrained head for embeddings of `size` numbers."""
        config = copy.deepcopy(model.config)
        setattr(config, SIZE, size)
        three_headed = cls(config)
        three_headed.load_state_dict(model.state_dict(), strict=False)
        three_headed.embedding_loss_weight = loss_weight
        return three_headed

    def forward(
        self,
        pixel_values: torch.Tensor,
        age_labels: torch.Tensor | None = None,
        gender_labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> AgeGenderOutput:
        """
        Args:
            embeddings: (B, size), standardised; NaN where there is none. Read in training only, where the loss grows by
                `embedding_loss_weight` times the mean squared error.
        """
        pooled: list[torch.Tensor] = []
        with self.dropout.register_forward_hook(lambda module, inputs, output: pooled.append(output)):
            output = super().forward(pixel_values, age_labels, gender_labels, output_hidden_states, output_attentions)
        if self.training and embeddings is not None and output.loss is not None:
            loss = embedding_loss(self.embedding_head(pooled[0]), embeddings)
            output.loss = output.loss + self.embedding_loss_weight * loss
        return output

    def without_head(self, weights: dict[str, torch.Tensor]) -> AgeGenderModel:
        """The model that is measured and published, with `weights` of this one."""
        config = copy.deepcopy(self.config)
        delattr(config, SIZE)
        model = AgeGenderModel(config)
        model.load_state_dict({name: values for name, values in weights.items() if not name.startswith(HEAD)})
        return model


def embedding_loss(predicted: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the faces that have an embedding; 0 (with a gradient) where a batch has none."""
    known = ~embeddings.isnan().any(dim=1)
    errors = (predicted.float() - embeddings.nan_to_num()).square().mean(dim=1)
    return (errors * known).sum() / known.sum().clamp(min=1)
