"""Train the two-head model from a recipe: `python -m trainer.train trainer/recipes/vit_tiny.yaml [--name value ...]`.

The same command under `accelerate launch -m trainer.train ...` trains on several processes.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from transformers import AutoConfig, AutoImageProcessor, TrainingArguments, ViTImageProcessorPil, set_seed
from transformers.trainer_utils import get_last_checkpoint

from model.configuration_age_gender import AgeGenderConfig, parse_age_ranges
from model.modeling_age_gender import AgeGenderModel
from trainer.age_gender_trainer import AgeGenderTrainer
from trainer.calibration import Calibration, fit_calibration
from trainer.data import DataArguments, load_faces
from trainer.metrics import build_compute_metrics
from trainer.model_folder import make_image_processor, save_model_folder
from trainer.recipe import RecipeError, parse_recipe
from trainer.run_record import describe_arguments, describe_environment, describe_splits, save_run_record
from trainer.transforms import AugmentationArguments, BatchTransform, collate_faces, decode_faces


@dataclass
class ModelArguments:
    """What is trained: a backbone, two heads and their losses."""

    backbone: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a pretrained vision backbone to start from."}
    )
    backbone_config: str | None = field(
        default=None, metadata={"help": "JSON configuration (with model_type) of a backbone trained from scratch."}
    )
    stem_channels: list[int] | None = field(
        default=None, metadata={"help": "Channels of stride-2 convolutions that replace a ViT's patch projection."}
    )
    pooling: str = field(default="mean", metadata={"help": "'mean' over the tokens, or 'cls'."})
    image_size: int = field(default=224, metadata={"help": "Side in pixels of the crop the model looks at."})
    train_image_size: int | None = field(
        default=None, metadata={"help": "Side at which training pictures are kept; image_size unless told otherwise."}
    )
    age_ranges: list[str] | None = field(
        default=None, metadata={"help": "Such as 0-17 18-39 40+; FairFace's nine unless told otherwise."}
    )
    age_sigma_years: float = field(default=2.0, metadata={"help": "Width of the Gaussian around the labelled year."})
    age_class_weights: str = field(
        default="none", metadata={"help": "Weight of rare age ranges: 'none', 'sqrt' or 'balanced'."}
    )
    range_loss_weight: float = field(default=0.0, metadata={"help": "Weight of cross-entropy on the age ranges."})
    gender_loss_weight: float = field(default=1.0, metadata={"help": "Weight of the gender loss beside the age loss."})
    gender_label_smoothing: float = field(default=0.0, metadata={"help": "Share of the gender target spread evenly."})
    head_dropout: float = field(default=0.0, metadata={"help": "Dropout before both heads."})
    gender_target_accuracy: float = field(
        default=0.95, metadata={"help": "Share of given gender answers that should be right; the rest is 'unsure'."}
    )

    def __post_init__(self):
        if bool(self.backbone) == bool(self.backbone_config):
            raise RecipeError(
                "Set one of `backbone` (pretrained) and `backbone_config` (from scratch), not both or none."
            )
        if self.age_class_weights not in ("none", "sqrt", "balanced"):
            raise RecipeError(f"age_class_weights must be none, sqrt or balanced, got {self.age_class_weights!r}.")


ARGUMENT_CLASSES = (ModelArguments, DataArguments, AugmentationArguments, TrainingArguments)


def build_model(args: ModelArguments) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """The untrained model and the processor with its backbone's normalisation."""
    values = {
        name: getattr(args, name)
        for name in (
            "stem_channels",
            "pooling",
            "image_size",
            "age_sigma_years",
            "range_loss_weight",
            "gender_loss_weight",
            "gender_label_smoothing",
            "head_dropout",
        )
    }
    if args.age_ranges:
        values["age_ranges"] = parse_age_ranges(args.age_ranges)
    if args.backbone:
        model = AgeGenderModel.from_backbone(args.backbone, **values)
        pretrained = AutoImageProcessor.from_pretrained(args.backbone)
        return model, make_image_processor(
            args.image_size, image_mean=pretrained.image_mean, image_std=pretrained.image_std
        )
    backbone_config = AutoConfig.for_model(**json.loads(args.backbone_config))
    return AgeGenderModel(AgeGenderConfig(backbone_config=backbone_config, **values)), make_image_processor(
        args.image_size
    )


def age_class_weights(ages: np.ndarray, config: AgeGenderConfig, kind: str) -> list[float] | None:
    """One weight a year, alike within a range, mean 1 over the training faces: 1/n ("balanced") or 1/sqrt(n) ("sqrt")."""
    if kind == "none":
        return None
    starts = [low for low, _ in config.age_ranges]
    range_of_year = np.digitize(np.arange(config.max_age + 1), starts) - 1
    counts = np.bincount(range_of_year[ages[ages >= 0]], minlength=len(starts)).clip(min=1)
    weights = counts ** (-0.5 if kind == "sqrt" else -1.0)
    weights = weights / (weights * counts).sum() * counts.sum()
    return weights[range_of_year].tolist()


def checkpoint_to_resume(folder: Path, output_dir: Path, resume: str | None) -> str | None:
    """The checkpoint to go on from, if asked to.

    Raises:
        RecipeError: there is work in the way that would be lost, or nothing at the path to resume from.
    """
    if (output_dir / "model.safetensors").exists():
        raise RecipeError(f"{output_dir} holds a finished run. Choose another --output_dir, or remove it first.")
    last = get_last_checkpoint(folder) if folder.is_dir() else None
    if resume and resume.lower() not in ("true", "false"):
        if not (Path(resume) / "model.safetensors").is_file():
            raise RecipeError(f"No checkpoint at {resume}: expected a folder such as {folder}/checkpoint-100.")
        return resume
    if last and (resume or "false").lower() == "false":
        raise RecipeError(
            f"{folder} holds an unfinished run. Add --resume_from_checkpoint true to go on with it, or remove the folder."
        )
    return last


def calibrate(trainer: AgeGenderTrainer, validation, target_accuracy: float) -> Calibration:
    """Fit on validation and apply to the trainer's model."""
    prediction = trainer.predict(validation, metric_key_prefix="validation")
    (age_logits, _, gender_logits), (age_labels, gender_labels) = prediction.predictions, prediction.label_ids
    model = trainer.accelerator.unwrap_model(trainer.model)
    calibration = fit_calibration(age_logits, gender_logits, age_labels, gender_labels, model.config, target_accuracy)
    calibration.apply(model)
    return calibration


def main(argv: list[str]) -> None:
    started = datetime.now(timezone.utc)
    model_args, data_args, augmentation, training_args = parse_recipe(argv, ARGUMENT_CLASSES)
    output_dir = Path(training_args.output_dir)
    # Checkpoints lie beside the result, so that the result holds what is published and nothing else.
    checkpoints = output_dir.with_name(output_dir.name + ".checkpoints")
    training_args.output_dir = str(checkpoints)
    resume_from = checkpoint_to_resume(checkpoints, output_dir, training_args.resume_from_checkpoint)
    set_seed(training_args.seed)

    with training_args.main_process_first(desc="preparing the faces"):
        faces = load_faces(data_args, seed=training_args.data_seed or 0)
        decoded = decode_faces(faces, model_args.image_size, model_args.train_image_size or model_args.image_size)

    model, processor = build_model(model_args)
    model.config.age_weights = age_class_weights(
        np.asarray(faces["train"]["age"]), model.config, model_args.age_class_weights
    )
    trainer = AgeGenderTrainer(
        model=model,
        args=training_args,
        train_dataset=decoded["train"],
        eval_dataset=decoded["validation"],
        data_collator=collate_faces,
        compute_metrics=build_compute_metrics(model.config),
        processing_class=processor,
        batch_transform=BatchTransform(model_args.image_size, processor.image_mean, processor.image_std, augmentation),
    )
    trainer.train(resume_from_checkpoint=resume_from)
    calibration = calibrate(trainer, decoded["validation"], model_args.gender_target_accuracy)

    if trainer.is_world_process_zero():
        save_model_folder(trainer.accelerator.unwrap_model(trainer.model), processor, output_dir)
        record = describe_environment() | {
            "recipe": argv[0] if argv and not argv[0].startswith("-") else None,
            "recipe_text": Path(argv[0]).read_text() if argv and not argv[0].startswith("-") else None,
            "arguments": asdict(model_args)
            | asdict(data_args)
            | asdict(augmentation)
            | describe_arguments(training_args),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(timezone.utc) - started).total_seconds()),
            "processes": training_args.world_size,
            "data": describe_splits(faces) | {"seed": training_args.data_seed or 0},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "best_step": trainer.state.best_global_step,
            "best_metric": {training_args.metric_for_best_model: trainer.state.best_metric},
            "calibration": asdict(calibration),
            "log_history": trainer.state.log_history,
        }
        save_run_record(output_dir / "training_run.json", record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (RecipeError, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
