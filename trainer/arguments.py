"""Everything that a recipe can say: eight dataclasses of arguments, read together and described together."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from trainer.build_model import ModelArguments
from trainer.data.arguments import DataArguments
from trainer.data.mixture import MixtureArguments
from trainer.data.transforms import AugmentationArguments
from trainer.devices import check_gpu_is_there, check_no_gpu_is_idle, check_processes
from trainer.distillation.distill import DistillationArguments
from trainer.optimizer import LearningArguments
from trainer.publishing import ReportArguments
from trainer.recipe import RecipeError, did_you_mean, parse_recipe
from trainer.run_record import describe_arguments, public_name


logger = logging.getLogger(__name__)

# What an evaluation during training returns: the losses, and the keys of trainer.metrics.build_compute_metrics.
METRICS = (
    *("loss", "age_loss", "gender_loss"),
    *("age_mae", "age_cs5", "age_range_accuracy", "age_range_within_one", "age_range_f1"),
    *("gender_accuracy", "gender_auc", "gender_f1"),
)


@dataclass
class RunArguments(TrainingArguments):
    """The Trainer's own arguments, with other defaults where transformers' do not fit."""

    output_dir: str = field(default="trainer_output", metadata={"help": "Folder of the result."})

    ddp_timeout: int = field(
        default=24 * 60 * 60,  # transformers' half hour is too short to prepare millions of faces
        metadata={"help": "Seconds that a process waits for the others, as all do while the first prepares the faces."},
    )

    logging_nan_inf_filter: bool = field(
        default=False,  # transformers' True forces a device synchronisation at every step
        metadata={"help": "Leave NaN and Inf losses out of the logged means. They end the run in any case."},
    )

    def __post_init__(self) -> None:
        """
        Raises:
            RecipeError: no evaluation returns `metric_for_best_model`.
        """
        metric = (self.metric_for_best_model or "loss").removeprefix("eval_")
        if metric not in METRICS:
            raise RecipeError(
                f"metric_for_best_model: unknown metric {metric!r}.{did_you_mean(metric, METRICS)} There are "
                f"{', '.join(METRICS)}."
            )
        less_is_better = metric.endswith("loss") or metric == "age_mae"
        if self.greater_is_better is None:  # transformers would maximise every metric that is not a loss
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
            # Otherwise copying a batch to the GPU waits for the previous step. accelerate 1.15 waits in any case for
            # streams, and in the epoch in which a run resumes.
            assert isinstance(self.accelerator_config, AcceleratorConfig)  # made by super().__post_init__
            self.accelerator_config.non_blocking = self.dataloader_pin_memory


class Arguments(NamedTuple):
    """One instance of each class of arguments."""

    model: ModelArguments
    data: DataArguments
    mixture: MixtureArguments
    augmentation: AugmentationArguments
    learning: LearningArguments
    distillation: DistillationArguments
    report: ReportArguments
    training: RunArguments

    @classmethod
    def parse(cls, argv: Sequence[str]) -> "Arguments":
        """
        Args:
            argv: `[recipe.yaml] [--name value ...]`.

        Returns:
            The arguments, those that `finetune_from` decides included: its configuration is read for that.

        Raises:
            RecipeError: as `trainer.recipe.parse_recipe`; no model at `finetune_from`; or a stream without max_steps.
            DeviceError: a GPU was asked for that is not there, each process would train alone, or GPUs are left over.
        """
        args = cls(*parse_recipe(argv, ARGUMENT_CLASSES))
        check_gpu_is_there(args.training.use_cpu)
        check_processes(args.training.world_size)
        check_no_gpu_is_idle(args.training.device.type)
        if args.data.streaming and args.training.max_steps <= 0:
            raise RecipeError("A stream has no known length: set max_steps, the number of batches to train on.")
        return args._replace(model=args.model.resolved())

    @property
    def data_seed(self) -> int:
        """The seed of the splits."""
        return self.training.data_seed or 0

    @property
    def data_sets(self) -> list[DataArguments]:
        """All sets to train on, the one that is measured on first."""
        return [self.data, *self.mixture.sets]

    @property
    def dataset_names(self) -> list[str]:
        """The public names of `data_sets`."""
        return [public_name(one.dataset) for one in self.data_sets]

    @property
    def paths(self) -> list[str]:
        """Places on this machine, and names on the Hub, that the arguments name."""
        own = (self.data.manifest, self.data.cache_dir, self.training.output_dir, *self.distillation.paths)
        return [*(one.dataset for one in self.data_sets), *(path for path in own if path)]

    def describe(self) -> dict[str, Any]:
        """{name: value} for the run's record: of `training` only what differs from the defaults, and no path of this
        machine.
        """
        finetune_from, backbone, manifest = self.model.finetune_from, self.model.backbone, self.data.manifest
        return (
            asdict(self.model)
            | {
                "finetune_from": finetune_from and public_name(finetune_from),
                "backbone": backbone and public_name(backbone),
            }
            | asdict(self.data)
            | {"dataset": public_name(self.data.dataset), "cache_dir": None}
            | {"manifest": manifest and public_name(manifest)}
            | self.mixture.describe()
            | asdict(self.augmentation)
            | asdict(self.learning)
            | self.distillation.describe()
            | asdict(self.report)
            | describe_arguments(self.training)
        )


ARGUMENT_CLASSES = tuple(Arguments.__annotations__.values())
