"""An auxiliary head for experiments: it learns race beside age and gender, and is thrown away after the training."""

import torch
from torch import nn

from model.modeling_age_gender import AgeGenderModel, AgeGenderOutput, class_loss
from trainer.data.labels import RACES


class AgeGenderRaceModel(AgeGenderModel):
    """Shapes its backbone by a third loss while it is trained. What is saved after that never predicts race."""

    _auto_class = None  # only checkpoints hold it: nobody loads its code from the Hub
    race_loss_weight = 0.0

    def __init__(self, config):
        super().__init__(config)
        self.race_head = nn.Linear(self.age_head.in_features, len(RACES))
        self.post_init()

    @classmethod
    def around(cls, model: AgeGenderModel, race_loss_weight: float) -> "AgeGenderRaceModel":
        """`model` with an untrained third head."""
        three_headed = cls(model.config)
        three_headed.load_state_dict(model.state_dict(), strict=False)
        three_headed.race_loss_weight = race_loss_weight
        return three_headed

    def forward(
        self,
        pixel_values: torch.FloatTensor,
        age_labels: torch.LongTensor | None = None,
        gender_labels: torch.LongTensor | None = None,
        races: torch.LongTensor | None = None,
        **wanted,
    ) -> AgeGenderOutput:
        """
        Args:
            races: (B,) index into `trainer.data.labels.RACES`, -100 where unknown; read in training only, where the loss
                grows by `race_loss_weight` times their cross-entropy.
        """
        if not self.training or races is None:
            return super().forward(pixel_values, age_labels, gender_labels, **wanted)
        pooled = []
        with self.dropout.register_forward_hook(lambda module, inputs, output: pooled.append(output)):
            output = super().forward(pixel_values, age_labels, gender_labels, **wanted)
        output.loss = output.loss + self.race_loss_weight * class_loss(self.race_head(pooled[0]), races)
        return output


def without_race_head(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of what is measured and published."""
    return {name: values for name, values in weights.items() if not name.startswith("race_head.")}
