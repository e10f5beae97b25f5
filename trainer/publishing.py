"""From a trained model to a folder that can be pushed: its files, its scores, its ONNX export and its card. The trackers of
`report_to` get the scores and figures too.

A start that resumes after training calls the same steps again; what an earlier start has finished is left as it is.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from huggingface_hub import HfApi
from PIL import Image
from transformers import BaseImageProcessor, Trainer, TrainingArguments
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback

from model.model_files import copy_unless_same
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.card import render_card
from model_card.hub_checks import check_may_write, check_name, check_signed_in, hub_errors
from model_card.output_files import write_atomically
from model_card.push import ENDPOINT_FILES, SHARED_CODE
from model_card.requirements import CARD, COMPARISON
from trainer.data.arguments import DataArguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.recipe import RecipeError


logger = logging.getLogger(__name__)
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
    license: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the weights for the card, by its id on the Hub, such as cc-by-4.0. Refused where they learn "
            "from a set for research only, such as UTKFace. Default: the card names the sets and their terms."
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
        copy_unless_same(SHARED_CODE / name, Path(folder, name))


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


def report_scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """`metrics.json` -> {name: value}: "test/age_mae", "test groups/White, male/gender_accuracy" and so on."""
    split = metrics["split"]
    scores = {f"{name} accuracy": ranges["accuracy"] for name, ranges in metrics["age_ranges"].items()}
    if "age" in metrics:
        scores["age_mae"] = metrics["age"]["mae"]
    if "gender" in metrics:
        scores["gender_accuracy"] = metrics["gender"]["accuracy"]
    scalars = {f"{split}/{name}": score["value"] for name, score in scores.items()}
    for group in metrics["groups"]:
        name = ", ".join(group[factor] for factor in group["by"].split(" x "))
        for metric in ("age_mae", "gender_accuracy"):
            scalars[f"{split} groups/{name}/{metric}"] = group[metric]["value"]
    return {name: value for name, value in scalars.items() if value is not None}


def track_report(trainer: Trainer, folder: Path) -> None:
    """Send the scores in `folder`/metrics.json and `folder`/figures/*.png to the run's TensorBoard, MLflow and trackio.

    The training has ended: the Trainer's callbacks have closed their runs, so each is opened again.
    """
    scalars = report_scalars(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    figures = sorted((folder / "figures").glob("*.png"))
    step, args = trainer.state.global_step, trainer.args
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            _to_tensorboard(callback.logging_dir, scalars, figures, step)
        elif isinstance(callback, MLflowCallback):
            _to_mlflow(scalars, figures, step)
        elif isinstance(callback, TrackioCallback):
            _to_trackio(args, scalars, figures)


# Trackers are imported where they are used: each is installed only by those who report to it.


def _to_tensorboard(logging_dir: str | None, scalars: Mapping[str, float], figures: Sequence[Path], step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(logging_dir) as writer:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
        for path in figures:
            with Image.open(path) as image:
                writer.add_image(f"figures/{path.stem}", np.asarray(image.convert("RGB")), step, dataformats="HWC")


def _to_mlflow(scalars: Mapping[str, float], figures: Sequence[Path], step: int) -> None:
    import mlflow

    run = mlflow.last_active_run()
    assert run is not None, "MLflowCallback has opened one"
    # MLflow refuses other characters
    values = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in scalars.items()}
    mlflow.log_metrics(values, step, run_id=run.info.run_id)
    for path in figures:
        mlflow.log_artifact(str(path), "figures", run_id=run.info.run_id)


def _to_trackio(args: TrainingArguments, scalars: Mapping[str, float], figures: Sequence[Path]) -> None:
    import trackio

    trackio.init(args.project, args.run_name, space_id=args.trackio_space_id, resume="allow", embed=False)
    trackio.log({**scalars, **{f"figures/{path.stem}": trackio.Image(path) for path in figures}})
    trackio.finish()
