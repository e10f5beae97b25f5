"""From a trained model to a folder that can be pushed: its files, its scores, its ONNX export and its card.

A start that resumes after training calls the same steps again; what an earlier start has finished is left as it is.
"""

import logging
import shutil
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from datasets import Dataset
from huggingface_hub import HfApi
from transformers import BaseImageProcessor, TrainingArguments

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.atomic_files import write_atomically
from model_card.card import render_card
from model_card.hub_checks import check_may_write, check_name, check_signed_in, hub_errors
from model_card.requirements import CARD, COMPARISON
from trainer.data.arguments import DataArguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.recipe import RecipeError


logger = logging.getLogger(__name__)
CODE_FOLDER = Path(__file__).parents[1] / "model"
ENDPOINT_FILES = ("handler.py", "requirements.txt")  # for Inference Endpoints; nothing imports them
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass
class ReportArguments:
    """What happens after training."""

    gender_target_accuracy: float = field(
        default=0.95,
        metadata={
            "help": "Accuracy to reach among the faces whose gender is answered; the model abstains on the others. With 500 "
            "validation faces or more, the lower end of its interval reaches this. With fewer, the threshold of finetune_from "
            "stays (without it, every face is answered) unless they show that it must change: docs/fine_tuning.md."
        },
    )
    report: bool = field(
        default=True, metadata={"help": "Evaluate on the test split, draw the figures and write the model card."}
    )
    sources: list[str] | None = field(
        default=None,
        metadata={
            "help": "What else the weights learnt from, with its terms of use: a sentence each for the card, such as 'dlib's "
            "face recognition network (CC0), by its embeddings.' Models that learn from this one inherit them."
        },
    )
    onnx: bool | None = field(
        default=None,
        metadata={
            "help": "Also export to ONNX, fp32 and int8, and show on the card what either costs on the test split. "
            "Default: true together with push_to_hub."
        },
    )

    def check_labels(self, test: Dataset) -> None:
        """Warn of a head whose errors cannot be measured: the test split has no labels for it, and the card says so."""
        genders, ages = np.array(test["gender"]), np.array(test["age"])
        missing = [name for name, labels in (("genders", genders), ("exact ages", ages)) if not (labels >= 0).any()]
        if self.report and missing:
            logger.warning(
                f"The test split has no {' and no '.join(missing)}: the card will say that these were not measured."
            )

    def exports_onnx(self, pushes: bool) -> bool:
        """Whether ONNX files are written after training.

        Args:
            pushes: whether the model goes to the Hub.

        Raises:
            RecipeError: they are asked for, and the packages or the report that compares them are missing.
        """
        if self.onnx and not self.report:
            raise RecipeError(
                "onnx: true compares the files on the test split for the report: leave out report: false."
            )
        missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
        if self.onnx and missing:
            raise RecipeError(f"onnx: true needs {', '.join(missing)}: pip install -r requirements-dev.txt")
        if self.onnx is not None:
            return self.onnx
        if pushes and self.report and missing:
            logger.warning(
                f"The model will be pushed without ONNX files: they need {', '.join(missing)} (pip install -r "
                "requirements-dev.txt)."
            )
        return pushes and self.report and not missing


def repository_to_push_to(training_args: TrainingArguments, output_dir: Path, *, report: bool) -> str | None:
    """The Hub id that the model goes to; None without `push_to_hub`. All that a push needs is checked before training.

    Args:
        output_dir: the run's result; its name is the repository's where `hub_model_id` says none.
        report: whether this start writes the report.

    Raises:
        RecipeError: there will be no report, from which the pushed card is rendered.
        HubError: not signed in, no valid name, or a token that may not write there.
    """
    if not training_args.push_to_hub:
        return None
    if not report and not (output_dir / CARD).exists():
        raise RecipeError(
            "push_to_hub: true needs the report, whose scores the card states: leave out report: false, or push later with "
            "scripts.push_to_hub."
        )
    repo_id = training_args.hub_model_id
    if repo_id:
        check_name(repo_id)
    check_signed_in()
    if not repo_id:
        with hub_errors("could not ask the Hub whose token this is"):
            user = HfApi().whoami()["name"]
        repo_id = f"{user}/{output_dir.name}"
        check_name(repo_id)
    check_may_write(repo_id, training_args.hub_private_repo)
    return repo_id


def save_model_folder(model: AgeGenderModel, image_processor: BaseImageProcessor, folder: str | Path) -> None:
    """Fill `folder` so that `pipeline("age-gender-classification", model=folder, trust_remote_code=True)` loads it.

    Writes model.safetensors, config.json (with `auto_map` and `custom_pipelines`), preprocessor_config.json, the code that
    the pipeline needs, YuNet's weights and `ENDPOINT_FILES`. Other files in the folder stay.
    """
    AgeGenderPipeline(model=model, image_processor=image_processor, device=model.device).save_pretrained(folder)
    for name in ENDPOINT_FILES:
        source, target = CODE_FOLDER / name, Path(folder, name)
        if not (target.exists() and target.samefile(source)):
            shutil.copyfile(source, target)


def evaluate_on_test(output_dir: Path, data_args: DataArguments) -> None:
    """Write metrics.json and the figures, unless the card says that an earlier start did. Every process must call this."""
    if not (output_dir / CARD).exists():
        evaluate_model(EvaluationArguments(model=str(output_dir)), replace(data_args, streaming=False))


def export_to_onnx(output_dir: Path, data_args: DataArguments) -> None:
    """Write both ONNX files, compared on the test split, unless an earlier start did.

    A network that cannot be exported is reported as a warning: the run ends with everything else.
    """
    if (output_dir / COMPARISON).exists():
        return
    from trainer.onnx.export import ExportArguments, ExportError, FaceArguments, export_onnx  # needs ONNX_PACKAGES

    faces = FaceArguments(**asdict(replace(data_args, streaming=False)))
    try:
        export_onnx(ExportArguments(model=str(output_dir), int8=True), faces)
    except ExportError as error:
        logger.warning(f"There are no ONNX files: {error}")


def write_card(output_dir: Path, repo_id: str | None) -> None:
    """Write README.md from all that was measured. It comes last: a folder that holds it is complete.

    Args:
        repo_id: from where the card's snippets load the model; the folder's name if None.
    """
    write_atomically(output_dir / CARD, render_card(output_dir, repo_id))
