"""What a run must know about the trained models that it learns from (the one that it fine-tunes, and its teachers): the sets
that they have seen, and that they saw no held-out picture.

Who learns from a model that was trained on a set must split the set as that training did. Otherwise the new run would validate
and test on pictures that the model was trained on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from datasets import DatasetDict, IterableDatasetDict
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

from model.model_files import check_sizes
from model_card.run_record import RUN_RECORD, all_sources, earlier_sets, may_be_same, read_run_record, trained_sets
from trainer.recipe import RecipeError
from trainer.run_record import describe_splits, public_name


class TrainedModels(NamedTuple):
    """The trained models that a run learns from, each as `describe_trained` describes it."""

    finetuned: dict[str, Any] | None  # whose weights the run starts with
    teachers: list[dict[str, Any]]

    def check_same_seed(self, datasets: Iterable[str], seed: int) -> None:
        """Before the sets are read: compare the seed that splits them.

        Args:
            datasets: public names of the sets to train on.
            seed: this run's `data_seed`.

        Raises:
            RecipeError: a model was trained on one of these sets, split by another seed.
        """
        names = set(datasets)
        for model in self._all():
            both = sorted(names & {known["dataset"] for known in model["trained_on"]})
            if both and model["data_seed"] != seed:
                raise RecipeError(
                    f"{model['model']} was trained on {' and '.join(both)} with data_seed {model['data_seed']}; with "
                    f"{seed} most pictures to validate and test on would be among those. Set data_seed: "
                    f"{model['data_seed']}."
                )

    def check_same_splits(self, sets: Iterable[tuple[str, DatasetDict | IterableDatasetDict]]) -> None:
        """After the sets are split: compare the splits, which folds, fractions and max_samples change too.

        Args:
            sets: public name and splits of each set to train on.

        Raises:
            RecipeError: a model was trained on other splits of one of these sets.
        """
        named = list(sets)
        for model in self._all():
            seen = {known["splits_sha256"] for known in model["trained_on"]}
            for name, splits in named:
                known = next((one["dataset"] for one in model["trained_on"] if may_be_same(one["dataset"], name)), None)
                if known and describe_splits(splits)["splits_sha256"] not in seen:
                    raise RecipeError(
                        f"{model['model']} was trained on other splits of {known}: pictures to validate and test on may be "
                        "among its training pictures. Split the set as that training did (see its training_run.json), "
                        "which means without folds, or use a model that was not trained on it. If this is another set "
                        f"than {known}, rename it."
                    )

    def _all(self) -> list[dict[str, Any]]:
        return [*([self.finetuned] if self.finetuned else []), *self.teachers]


def describe_trained(name_or_path: str, revision: str | None, argument: str) -> dict[str, Any]:
    """Which model a run makes use of, and how that one was trained.

    Args:
        argument: names the model; for error messages.

    Returns:
        `model` and `revision`; `trained_on`, the sets that it, the models before it and their teachers have seen, whose
        terms of use its weights carry on; `sources`, what else they learnt from (`ReportArguments.sources`); `data_seed`
        of its splits; `seconds`, how long all these trainings took together; `record`, how it was made. The last three
        are None where it has no training_run.json.

    Raises:
        RecipeError: there is no such model, or the Hub does not give its record.
        ModelFileError: the record is too large.
    """
    folder: Path | None = Path(name_or_path)
    if not Path(name_or_path).is_dir():
        check_sizes(name_or_path, [RUN_RECORD], revision)
        try:
            folder = Path(hf_hub_download(name_or_path, RUN_RECORD, revision=revision)).parent
        except EntryNotFoundError:
            folder = None
        except HFValidationError as error:
            raise RecipeError(f"{argument}: there is no folder {name_or_path}, and it is no Hub id: {error}") from error
        except HfHubHTTPError as error:
            raise RecipeError(f"{argument}: {RUN_RECORD} of {name_or_path} cannot be read: {error}") from error
    run = folder and read_run_record(folder)
    seconds_before = ((run and run.get("started_from")) or {"seconds": 0})["seconds"]
    sets = [*trained_sets(run), *earlier_sets(run)] if run else []
    return {
        "model": public_name(name_or_path),
        "revision": revision,
        "trained_on": [known for index, known in enumerate(sets) if known not in sets[:index]],
        "sources": all_sources(run) if run else [],
        "data_seed": run["data"]["seed"] if run else None,
        "seconds": run["seconds"] + seconds_before if run and seconds_before is not None else None,
        "record": run and {name: run.get(name) for name in ("command", "commit", "recipe_text", "log_history")},
    }
