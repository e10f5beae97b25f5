"""All that a recipe can say, as one typed whole."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from trainer.build_model import ModelArguments
from trainer.data_arguments import DataArguments
from trainer.devices import check_gpu_is_there, check_no_gpu_is_idle, check_processes
from trainer.learning import LearningArguments
from trainer.mixture import MixtureArguments
from trainer.recipe import parse_recipe
from trainer.report_arguments import ReportArguments
from trainer.run_arguments import RunArguments
from trainer.run_record import describe_arguments, public_name
from trainer.transforms import AugmentationArguments


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
