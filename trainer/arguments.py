"""All that a recipe can say, as one typed whole."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import TrainingArguments

from trainer.build_model import ModelArguments
from trainer.data.arguments import DataArguments
from trainer.data.mixture import MixtureArguments
from trainer.data.transforms import AugmentationArguments
from trainer.devices import check_gpu_is_there, check_no_gpu_is_idle, check_processes
from trainer.optimizer import LearningArguments
from trainer.recipe import RecipeError, parse_recipe
from trainer.run_record import describe_arguments, public_name


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


ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass
class ReportArguments:
    """What happens after training."""

    gender_target_accuracy: float = field(
        default=0.95,
        metadata={
            "help": "Share of given gender answers that should be right: the lower end of its interval reaches this on "
            "validation; the rest is 'unsure'."
        },
    )
    report: bool = field(
        default=True, metadata={"help": "Measure on the test split, draw the figures and write the model card."}
    )
    onnx: bool | None = field(
        default=None,
        metadata={
            "help": "Also export to ONNX, fp32 and int8, and show on the card what either costs on the test split; "
            "together with push_to_hub unless told otherwise."
        },
    )

    def check_labels(self, test: Dataset) -> None:
        """
        Raises:
            RecipeError: the card states the errors of both heads, and the test split cannot tell them.
        """
        genders, ages = np.array(test["gender"]), np.array(test["age"])
        missing = [name for name, labels in (("genders", genders), ("exact ages", ages)) if not (labels >= 0).any()]
        if self.report and missing:
            raise RecipeError(
                f"The test split has no {' and no '.join(missing)}, so no card can be written. Add --report false, and "
                "measure what there is with scripts.evaluate_model."
            )

    def writes_onnx(self, pushes: bool) -> bool:
        """Asked before the training, so that nothing is found missing after it. `pushes`: the model goes to the Hub.

        Raises:
            RecipeError: asked for, without the packages for it or without a report to stand in.
        """
        if self.onnx and not self.report:
            raise RecipeError(
                "onnx: true compares the files on the test split for the report: leave out report: false."
            )
        missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
        if self.onnx and missing:
            raise RecipeError(f"onnx: true needs {', '.join(missing)}: pip install -r requirements-dev.txt")
        if self.onnx is None and pushes and self.report and missing:
            logger.warning(
                f"The model will be pushed without ONNX files: they need {', '.join(missing)} (pip install -r "
                "requirements-dev.txt)."
            )
        return bool(self.onnx if self.onnx is not None else pushes and self.report and not missing)


class Arguments(NamedTuple):
    """One instance of each class of arguments."""

    model: ModelArguments
    data: DataArguments
    mixture: MixtureArguments
    augmentation: AugmentationArguments
    learning: LearningArguments
    report: ReportArguments
    training: RunArguments

    @classmethod
    def parse(cls, argv: Sequence[str]) -> "Arguments":
        """
        Args:
            argv: `[recipe.yaml] [--name value ...]`.

        Raises:
            RecipeError: as `trainer.recipe.parse_recipe` does.
            DeviceError: a GPU was asked for that is not there, each process would train alone, or GPUs are left over.
        """
        args = cls(*parse_recipe(argv, ARGUMENT_CLASSES))
        check_gpu_is_there(args.training.use_cpu)
        check_processes(args.training.world_size)
        check_no_gpu_is_idle(args.training.device.type)
        return args

    def describe(self) -> dict[str, Any]:
        """{name: value} for the run's record: of the training arguments those that differ from the defaults, and no word
        of where files lie on this machine."""
        start_from, manifest = self.model.start_from, self.data.manifest
        return (
            asdict(self.model)
            | {"start_from": start_from and public_name(start_from)}
            | asdict(self.data)
            | {"dataset": public_name(self.data.dataset), "cache_dir": None}
            | {"manifest": manifest and public_name(manifest)}
            | self.mixture.describe()
            | asdict(self.augmentation)
            | asdict(self.learning)
            | asdict(self.report)
            | describe_arguments(self.training)
        )


ARGUMENT_CLASSES = tuple(Arguments.__annotations__.values())
