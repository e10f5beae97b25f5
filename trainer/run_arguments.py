"""The arguments of transformers' Trainer, with what this training expects of them."""

import difflib
import logging
from dataclasses import dataclass, field

from transformers import TrainingArguments

from trainer.recipe import RecipeError


logger = logging.getLogger(__name__)

# What an evaluation gives: the losses, and the keys of trainer.metrics.build_compute_metrics.
METRICS = (
    *("loss", "age_loss", "gender_loss"),
    *("age_mae", "age_cs5", "age_range_accuracy", "age_range_within_one", "age_range_f1"),
    *("gender_accuracy", "gender_auc", "gender_f1"),
)


@dataclass
class RunArguments(TrainingArguments):
    """The Trainer's own arguments."""

    ddp_timeout: int = field(
        default=24 * 60 * 60,  # of transformers half an hour, in which millions of faces are not prepared
        metadata={"help": "Seconds that a process waits for the others, as all do while one prepares the faces."},
    )

    logging_nan_inf_filter: bool = field(
        default=False,  # of transformers True: it waits for the GPU at every step
        metadata={
            "help": "Leave losses that are no numbers out of the log and out of an evaluation's. They end the run."
        },
    )

    def __post_init__(self):
        """
        Raises:
            RecipeError: `metric_for_best_model` is nothing that an evaluation gives.
        """
        metric = (self.metric_for_best_model or "loss").removeprefix("eval_")
        if metric not in METRICS:
            near = difflib.get_close_matches(metric, METRICS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RecipeError(
                f"metric_for_best_model: unknown metric {metric!r}.{hint} There are {', '.join(METRICS)}."
            )
        less_is_better = metric.endswith("loss") or metric == "age_mae"
        if self.greater_is_better is None:  # transformers takes every metric but a loss for a score
            self.greater_is_better = not less_is_better
        elif self.greater_is_better == less_is_better:
            extreme = "largest" if self.greater_is_better else "smallest"
            logger.warning(
                f"greater_is_better: {str(self.greater_is_better).lower()} makes the {extreme} {metric} the best one. "
                "Left out, it follows from the metric."
            )
        is_unset = self.accelerator_config is None
        super().__post_init__()
        if is_unset:
            # Else the copying of each batch waits until the GPU has done the step before; that of a stream, and of the
            # epoch in which a run goes on, does so in any case (accelerate 1.15).
            self.accelerator_config.non_blocking = self.dataloader_pin_memory
