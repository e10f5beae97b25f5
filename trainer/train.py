"""Train the two-head model from a recipe: `python -m trainer.train trainer/recipes/vit_tiny.yaml [--name value ...]`.

The same command under `accelerate launch -m trainer.train ...` trains on several processes. What it leaves in
`outputs/<run>/` is a model folder: weights, code, card and figures, ready to be served or pushed.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from huggingface_hub import HfApi
from safetensors import SafetensorError
from transformers import TrainingArguments, ViTImageProcessorPil, set_seed

from model.modeling_age_gender import AgeGenderModel
from model_card.card import render_card
from scripts.evaluate_model import EvaluationArguments, evaluate_model
from scripts.push_to_hub import push_folder
from trainer.age_gender_trainer import AgeGenderTrainer
from trainer.build_model import ModelArguments, age_class_weights, build_model
from trainer.calibration import Calibration, fit_calibration
from trainer.checkpoints import checkpoint_to_resume
from trainer.data import DataArguments, load_faces
from trainer.devices import check_processes
from trainer.learning import LearningArguments
from trainer.metrics import build_compute_metrics
from trainer.mixture import MixtureArguments, load_sets, mix_training_faces, without_copies
from trainer.model_folder import save_model_folder
from trainer.recipe import RecipeError, parse_recipe
from trainer.report_arguments import ReportArguments
from trainer.run_cost import RunCost
from trainer.run_record import (
    describe_arguments,
    describe_environment,
    describe_splits,
    describe_start,
    public_name,
    save_run_record,
)
from trainer.tracking import track_report
from trainer.transforms import AugmentationArguments, BatchTransform, collate_faces, decode_faces


logger = logging.getLogger(__name__)

ARGUMENT_CLASSES = (
    ModelArguments,
    DataArguments,
    MixtureArguments,
    AugmentationArguments,
    LearningArguments,
    ReportArguments,
    TrainingArguments,
)


def prepare_faces(
    model_args: ModelArguments, data_args: DataArguments, mixture: MixtureArguments, training_args: TrainingArguments
) -> tuple[DatasetDict, list[DatasetDict], DatasetDict]:
    """The splits, those of the other sets that are trained on too, and both decoded for training and validation."""
    seed = training_args.data_seed or 0
    with training_args.main_process_first(desc="preparing the faces"):
        faces = load_faces(data_args, seed=seed)
        other_sets = load_sets(mixture, faces, seed)
        sizes = (model_args.image_size, model_args.train_image_size or model_args.image_size)
        decoded = decode_faces(faces, *sizes)
        held_out = [faces["validation"], faces["test"]]
        others = [
            decode_faces(DatasetDict(train=without_copies(splits["train"], held_out)), *sizes)["train"]
            for splits in other_sets
        ]
        if others or mixture.repeat > 1:
            decoded["train"] = mix_training_faces(mixture, decoded["train"], others)
    return faces, other_sets, decoded


def make_model(model_args: ModelArguments, train_faces: Dataset) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """The model to train and its preprocessing. `train_faces`: whose ages weigh the classes."""
    model, processor = build_model(model_args)
    if model_args.age_class_weights != "none":
        ages = np.array(list(train_faces.select_columns(["age"])["age"]))
        model.config.age_weights = age_class_weights(ages, model.config, model_args.age_class_weights)
    return model, processor


def build_trainer(
    model_args: ModelArguments,
    augmentation: AugmentationArguments,
    learning: LearningArguments,
    training_args: TrainingArguments,
    train_faces: Dataset,
    decoded: DatasetDict,
) -> AgeGenderTrainer:
    """A trainer with a new model; `decoded` as `prepare_faces` returns it."""
    model, processor = make_model(model_args, train_faces)
    return AgeGenderTrainer(
        model=model,
        args=training_args,
        train_dataset=decoded["train"],
        eval_dataset=decoded["validation"],
        data_collator=collate_faces,
        compute_metrics=build_compute_metrics(model.config),
        processing_class=processor,
        callbacks=learning.callbacks(training_args),
        batch_transform=BatchTransform(model_args.image_size, processor.image_mean, processor.image_std, augmentation),
        train_resolutions=model_args.train_resolutions or (),
        l1_penalty=learning.l1_penalty,
        muon=learning.muon,
    )


def calibrate(trainer: AgeGenderTrainer, model: AgeGenderModel, validation, target_accuracy: float) -> Calibration:
    """Fit on validation and apply to `model`, the trainer's own in one piece."""
    prediction = trainer.predict(validation, metric_key_prefix="validation")
    (age_logits, _, gender_logits), (age_labels, gender_labels) = prediction.predictions, prediction.label_ids
    calibration = fit_calibration(age_logits, gender_logits, age_labels, gender_labels, model.config, target_accuracy)
    calibration.apply(model)
    return calibration


def write_onnx(folder: Path, data_args: DataArguments) -> None:
    """Both ONNX files, compared on the test split; a network that cannot be exported costs the run nothing else."""
    from scripts.export_onnx import ExportArguments, FaceArguments, export_onnx  # here: needs ONNX_PACKAGES
    from trainer.onnx_export import ExportError

    faces = FaceArguments(**asdict(replace(data_args, streaming=False)))
    try:
        export_onnx(ExportArguments(model=str(folder), int8=True), faces)
    except ExportError as error:
        logger.warning(f"There are no ONNX files: {error}")


def main(argv: Sequence[str]) -> None:
    model_args, data_args, mixture, augmentation, learning, report_args, training_args = parse_recipe(
        argv, ARGUMENT_CLASSES
    )
    check_processes(training_args.world_size)
    # Now: the commit may be another one when the training ends.
    paths = [data_args.dataset, data_args.manifest, data_args.cache_dir, training_args.output_dir]
    environment = describe_environment([*filter(None, paths), *(other.dataset for other in mixture.sets)])
    recipe = Path(argv[0]) if argv and not argv[0].startswith("-") else None
    environment |= {"recipe": recipe and str(recipe), "recipe_text": recipe and recipe.read_text()}
    started_from = model_args.start_from and describe_start(model_args.start_from, model_args.start_revision)
    output_dir = Path(training_args.output_dir)
    # Checkpoints lie beside the result, so that the result holds what is published and nothing else.
    training_args.output_dir = str(output_dir.with_name(output_dir.name + ".checkpoints"))
    resume_from = checkpoint_to_resume(Path(training_args.output_dir), output_dir, training_args.resume_from_checkpoint)
    cost = RunCost(resume_from)
    if data_args.streaming and training_args.max_steps <= 0:
        raise RecipeError("A stream does not say how long it is: set max_steps, the number of batches to train on.")
    # The Trainer would push checkpoints without code or card; the finished folder is pushed at the end instead.
    repo_id = None
    if training_args.push_to_hub:
        user = HfApi().whoami()["name"]  # a missing login is better known now than after the training
        repo_id = training_args.hub_model_id or f"{user}/{output_dir.name}"
        training_args.push_to_hub = False
    writes_onnx = report_args.writes_onnx(pushes=repo_id is not None)
    training_args.run_name = training_args.run_name or output_dir.name  # by which trackers know it
    set_seed(training_args.seed)

    faces, other_sets, decoded = prepare_faces(model_args, data_args, mixture, training_args)
    if not data_args.streaming:
        report_args.check_labels(faces["test"])
    trainer = build_trainer(model_args, augmentation, learning, training_args, faces["train"], decoded)
    trainer.add_callback(cost)
    trainer.train(resume_from_checkpoint=resume_from)
    model = trainer.whole_model()
    calibration = calibrate(trainer, model, decoded["validation"], report_args.gender_target_accuracy)

    if trainer.is_world_process_zero():
        save_model_folder(model, trainer.processing_class, output_dir)
        record = (
            environment
            | cost.total()
            | {
                "arguments": asdict(model_args)
                | {"start_from": started_from and started_from["model"]}
                | asdict(data_args)
                | {"dataset": public_name(data_args.dataset), "cache_dir": None}
                | {"manifest": data_args.manifest and public_name(data_args.manifest)}
                | mixture.describe()
                | asdict(augmentation)
                | asdict(learning)
                | asdict(report_args)
                | describe_arguments(training_args),
                "processes": training_args.world_size,
                "started_from": started_from,
                "data": describe_splits(faces)
                | {"seed": training_args.data_seed or 0, "also_trained_on": mixture.describe_sets(other_sets)},
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "best_step": trainer.state.best_global_step,
                "best_metric": {training_args.metric_for_best_model: trainer.state.best_metric},
                "calibration": asdict(calibration),
                "log_history": trainer.state.log_history,
            }
        )
        save_run_record(output_dir / "training_run.json", record)
    trainer.accelerator.wait_for_everyone()

    if report_args.report:
        evaluate_model(EvaluationArguments(model=str(output_dir)), replace(data_args, streaming=False))
        if trainer.is_world_process_zero():
            if writes_onnx:
                write_onnx(output_dir, data_args)
            (output_dir / "README.md").write_text(render_card(output_dir, repo_id), encoding="utf-8")
            track_report(trainer, output_dir)
    if repo_id and trainer.is_world_process_zero():
        push_folder(output_dir, repo_id, private=training_args.hub_private_repo)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, SafetensorError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
