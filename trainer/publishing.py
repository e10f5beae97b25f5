"""What follows the training: the figures of the test split, the ONNX files, the card; and where it is pushed to."""

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from huggingface_hub import HfApi
from transformers import BaseImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.card import render_card
from model_card.requirements import COMPARISON
from trainer.arguments import Arguments
from trainer.atomic_files import write_whole
from trainer.callbacks import track_report
from trainer.checkpoints import CARD
from trainer.data.arguments import DataArguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.trainer import AgeGenderTrainer


logger = logging.getLogger(__name__)


def save_model_folder(model: AgeGenderModel, image_processor: BaseImageProcessor, folder: str | Path) -> None:
    """Fill `folder` so that it loads by `pipeline("age-gender-classification", model=folder, trust_remote_code=True)`.

    Writes model.safetensors, config.json (with `auto_map` and `custom_pipelines`), preprocessor_config.json, the code the
    pipeline needs, YuNet's weights and, for Inference Endpoints, the handler and requirements.txt. Other files in the
    folder stay as they are.
    """
    AgeGenderPipeline(model=model, image_processor=image_processor, device=model.device).save_pretrained(folder)
    for name in ("handler.py", "requirements.txt"):
        source, target = Path(__file__).parents[1] / "model" / name, Path(folder, name)
        if not (target.exists() and target.samefile(source)):
            shutil.copyfile(source, target)


def write_report(
    args: Arguments, output_dir: Path, repo_id: str | None, writes_onnx: bool, trainer: AgeGenderTrainer | None
) -> None:
    """Measure the model in `output_dir` on the test split, export it if asked to, and last of all write its card.

    What an earlier start has measured or exported is not made again.

    Args:
        repo_id: where it will be pushed to, for the card.
        trainer: whose trackers are told of it; None where the training was finished by an earlier start.
    """
    if not (output_dir / CARD).exists():
        evaluate_model(EvaluationArguments(model=str(output_dir)), replace(args.data, streaming=False))
    if args.training.process_index > 0:
        return
    if writes_onnx and not (output_dir / COMPARISON).exists():
        write_onnx(output_dir, args.data)
    write_whole(output_dir / CARD, render_card(output_dir, repo_id))
    if trainer:
        track_report(trainer, output_dir)


def write_onnx(folder: Path, data_args: DataArguments) -> None:
    """Both ONNX files, compared on the test split; a network that cannot be exported costs the run nothing else."""
    from trainer.onnx.export import (  # here: needs ONNX_PACKAGES
        ExportArguments,
        ExportError,
        FaceArguments,
        export_onnx,
    )

    faces = FaceArguments(**asdict(replace(data_args, streaming=False)))
    try:
        export_onnx(ExportArguments(model=str(folder), int8=True), faces)
    except ExportError as error:
        logger.warning(f"There are no ONNX files: {error}")


def repository_to_push_to(args: Arguments, output_dir: Path) -> str | None:
    """The Hub id, where a push is asked for: a missing login is better known before the training than after it."""
    if not args.training.push_to_hub:
        return None
    user = HfApi().whoami()["name"]
    return args.training.hub_model_id or f"{user}/{output_dir.name}"
