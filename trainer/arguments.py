"""Everything that a recipe can say: eight dataclasses of arguments, read together and described together."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from trainer.data.arguments import DataArguments
from trainer.data.mixture import MixtureArguments
from trainer.data.transforms import AugmentationArguments
from trainer.devices import check_gpu_is_there, check_no_gpu_is_idle, check_processes
from trainer.distillation.distill import DistillationArguments
from trainer.metrics import METRICS
from trainer.model_arguments import ModelArguments
from trainer.optimizer import LearningArguments
from trainer.publishing import ReportArguments
from trainer.recipe import RecipeError, did_you_mean, parse_recipe
from trainer.run_record import describe_arguments, public_name


logger = logging.getLogger(__name__)


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

    remove_unused_columns: bool = field(
        default=False,  # transformers' True removes what the model's forward does not name: pixels and labels
        metadata={"help": "Always false: the batches are made of columns that the model does not name."},
    )

    def __post_init__(self) -> None:
        """
        Raises:
            RecipeError: `output_dir` names no folder of its own; no evaluation returns `metric_for_best_model`; or an
                optimizer, a schedule, a tracker or a way of sampling cannot be used, which transformers would find after
                the faces are prepared.
        """
        if self.output_dir is not None and Path(self.output_dir).name in ("", ".."):
            raise RecipeError(
                f"output_dir: expected a folder for this run alone, got {self.output_dir!r}: the checkpoints lie beside it. "
                f"Write {Path(self.output_dir, 'run')}, for example."
            )
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
        if self.device.type == "cpu":
            self.dataloader_pin_memory = False  # there is no copy to speed up, and torch warns in every epoch
        if is_unset:
            # Otherwise copying a batch to the GPU waits for the previous step. accelerate 1.15 waits in any case for
            # streams, and in the epoch in which a run resumes.
            assert isinstance(self.accelerator_config, AcceleratorConfig)  # made by super().__post_init__
            self.accelerator_config.non_blocking = self.dataloader_pin_memory
        check_columns_and_sampling(self)
        check_optimizer(self)
        check_schedule(self)
        check_trackers(self)

    def check_batch(self, faces: int) -> None:
        """
        Args:
            faces: number of training faces in an epoch.

        Raises:
            RecipeError: `dataloader_drop_last` would leave no batch at all.
        """
        batch = self.train_batch_size * self.world_size
        if self.dataloader_drop_last and faces < batch:
            raise RecipeError(
                f"dataloader_drop_last: true drops an incomplete batch, and {faces} training faces do not fill one of {batch} "
                f"(per_device_train_batch_size x devices = {self.per_device_train_batch_size} x "
                f"{batch // self.per_device_train_batch_size}). Leave it out, or use smaller batches."
            )


def check_columns_and_sampling(args: TrainingArguments) -> None:
    """
    Raises:
        RecipeError: the faces would lose their columns, or be sorted by a length.
    """
    if args.remove_unused_columns:
        raise RecipeError(
            "remove_unused_columns: true would remove the pixels and labels of the faces. Leave it out: the default is "
            "false here."
        )
    if args.train_sampling_strategy not in ("random", "sequential"):
        raise RecipeError(
            f"train_sampling_strategy: expected random or sequential, got {args.train_sampling_strategy}, which is for "
            "texts of different lengths."
        )


def check_optimizer(args: TrainingArguments) -> None:
    """
    Raises:
        RecipeError: the optimizer is made for language models, or its package is missing.
    """
    optim = OptimizerNames(args.optim).value
    if optim.startswith(("galore", "apollo", "lomo", "adalomo")):
        raise RecipeError(f"optim: {optim} is made for language models. Leave it out, or use muon: true.")
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, TypeError, ValueError) as error:
        raise RecipeError(f"optim: {optim} cannot be used: {error}") from error


def check_schedule(args: TrainingArguments) -> None:
    """Build the schedule for an optimizer of one number.

    Raises:
        RecipeError: the schedule needs other `lr_scheduler_kwargs`.
    """
    name = SchedulerType(args.lr_scheduler_type)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    kwargs: Any = args.lr_scheduler_kwargs  # a mapping, once TrainingArguments has parsed the text
    try:
        get_scheduler(name, optimizer, num_warmup_steps=0, num_training_steps=100, scheduler_specific_kwargs=kwargs)
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"lr_scheduler_type: {name.value} cannot be used with lr_scheduler_kwargs {kwargs}: {error}"
        ) from error


def check_trackers(args: TrainingArguments) -> None:
    """
    Raises:
        RecipeError: `report_to` names a tracker that is not installed.
    """
    installed = get_available_reporting_integrations()
    missing = [name for name in args.report_to or () if name not in installed]
    if missing:
        raise RecipeError(
            f"report_to: {', '.join(missing)} is not installed here, or is no tracker. There are "
            f"{', '.join(sorted(installed)) or 'none'}; requirements-dev.txt has tensorboard, mlflow and trackio."
        )


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
        return args._replace(model=args.model.resolved(), mixture=args.mixture.inheriting(args.data))

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
        of_sets = [path for one in self.data_sets for path in (one.dataset, one.manifest, one.cache_dir)]
        of_models = (self.model.finetune_from, self.model.backbone, *self.distillation.paths)
        of_run = (self.training.output_dir, self.training.resume_from_checkpoint)
        return [path for path in (*of_sets, *of_models, *of_run) if path]

    def describe(self) -> dict[str, Any]:
        """{name: value} for the run's record: of `training` only what differs from the defaults, and no path of this
        machine.
        """
        finetune_from, backbone = self.model.finetune_from, self.model.backbone
        return (
            asdict(self.model)
            | {
                "finetune_from": finetune_from and public_name(finetune_from),
                "backbone": backbone and public_name(backbone),
            }
            | self.data.describe()
            | self.mixture.describe()
            | asdict(self.augmentation)
            | asdict(self.learning)
            | self.distillation.describe()
            | asdict(self.report)
            | describe_arguments(self.training)
        )


ARGUMENT_CLASSES = tuple(Arguments.__annotations__.values())
