"""Train the two-head model from a recipe: `python -m trainer.train trainer/recipes/vit_tiny.yaml [--name value ...]`.

The same command under `accelerate launch -m trainer.train ...` trains on several processes. What it leaves in
`outputs/<run>/` is a model folder: weights, code, card and figures, ready to be served or pushed.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, DatasetDict
from safetensors import SafetensorError
from transformers import ViTImageProcessorPil, set_seed

from model.modeling_age_gender import AgeGenderModel
from model_card.push import push_folder
from trainer.arguments import Arguments
from trainer.build_model import ModelArguments, age_class_weights, build_model
from trainer.calibration import Calibration, fit_calibration
from trainer.callbacks import RunCost
from trainer.checkpoints import RUN_RECORD, CheckpointError, check_shared, checkpoint_to_resume, is_trained, way_back
from trainer.data.loading import load_faces
from trainer.data.mixture import load_sets, mix_training_faces, training_faces
from trainer.data.transforms import BatchTransform, collate_faces, decode_faces
from trainer.evaluation.held_out import check_start, check_start_splits
from trainer.metrics import build_compute_metrics
from trainer.publishing import repository_to_push_to, save_model_folder, write_report
from trainer.recipe import RecipeError
from trainer.run_record import (
    describe_environment,
    describe_splits,
    describe_start,
    public_name,
    save_run_record,
)
from trainer.trainer import AgeGenderTrainer


class Faces(NamedTuple):
    """`splits` of the data set and of the `other_sets` that are trained on too; `decoded`: train and validation of both."""

    splits: DatasetDict
    other_sets: list[DatasetDict]
    decoded: DatasetDict


def prepare_faces(args: Arguments) -> Faces:
    """Every set cleaned, split and decoded, by the main process for all of them; `datasets` keeps it on disk.

    Raises:
        RecipeError: as `check_start_splits` does.
    """
    seed = args.training.data_seed or 0
    with args.training.main_process_first(desc="preparing the faces"):
        splits = load_faces(args.data, seed=seed)
        other_sets = load_sets(args.mixture, splits, seed)
        if args.model.start_from:
            start = describe_start(args.model.start_from, args.model.start_revision)
            check_start_splits(start, zip(dataset_names(args), [splits, *other_sets], strict=True))
        decode = partial(
            decode_faces,
            image_size=args.model.image_size,
            train_size=args.model.train_image_size or args.model.image_size,
            num_proc=args.data.num_proc,
        )
        if other_sets or args.mixture.repeat > 1:
            of_each = training_faces([splits, *other_sets])
            parts = [decode(DatasetDict(train=faces))["train"] for faces in of_each]
            decoded = decode(DatasetDict(validation=splits["validation"]))
            decoded["train"] = mix_training_faces(args.mixture, parts)
        else:
            decoded = decode(splits)
    return Faces(splits, other_sets, decoded)


def dataset_names(args: Arguments) -> list[str]:
    return [public_name(one.dataset) for one in (args.data, *args.mixture.sets)]


def make_model(model_args: ModelArguments, train_faces: Dataset) -> tuple[AgeGenderModel, ViTImageProcessorPil]:
    """The model to train and its preprocessing. `train_faces`: whose ages weigh the classes."""
    model, processor = build_model(model_args)
    if model_args.age_class_weights != "none":
        ages = np.array(list(train_faces.select_columns(["age"])["age"]))
        model.config.age_weights = age_class_weights(ages, model.config, model_args.age_class_weights)
    return model, processor


def build_trainer(args: Arguments, faces: Faces) -> AgeGenderTrainer:
    """A trainer with a new model."""
    model, processor = make_model(args.model, faces.splits["train"])
    mean, std = processor.image_mean, processor.image_std
    return AgeGenderTrainer(
        model=model,
        args=args.training,
        train_dataset=faces.decoded["train"],
        eval_dataset=faces.decoded["validation"],
        data_collator=collate_faces,
        compute_metrics=build_compute_metrics(model.config),
        processing_class=processor,
        callbacks=args.learning.callbacks(args.training),
        batch_transform=BatchTransform(args.model.image_size, mean, std, args.augmentation),
        train_resolutions=args.model.train_resolutions or (),
        l1_penalty=args.learning.l1_penalty,
        muon=args.learning.muon,
    )


def calibrate(trainer: AgeGenderTrainer, model: AgeGenderModel, validation, target_accuracy: float) -> Calibration:
    """Fit on validation and apply to `model`, the trainer's own in one piece."""
    prediction = trainer.predict(validation, metric_key_prefix="validation")
    (age_logits, _, gender_logits), (age_labels, gender_labels) = prediction.predictions, prediction.label_ids
    calibration = fit_calibration(age_logits, gender_logits, age_labels, gender_labels, model.config, target_accuracy)
    calibration.apply(model)
    return calibration


def describe_beginning(argv: Sequence[str], args: Arguments) -> dict[str, Any]:
    """What a run's record says of its beginning: the commit may be another one when the training ends.

    Raises:
        RecipeError: as `check_start` does.
    """
    start = args.model.start_from and describe_start(args.model.start_from, args.model.start_revision)
    if start:
        check_start(start, dataset_names(args), args.training.data_seed or 0)
    paths = [args.data.dataset, args.data.manifest, args.data.cache_dir, args.training.output_dir]
    recipe = Path(argv[0]) if argv and not argv[0].startswith("-") else None
    return describe_environment([*filter(None, paths), *(other.dataset for other in args.mixture.sets)]) | {
        "recipe": recipe and str(recipe),
        "recipe_text": recipe and recipe.read_text(),
        "started_from": start,
    }


def describe_end(args: Arguments, faces: Faces, trainer: AgeGenderTrainer, model: AgeGenderModel) -> dict[str, Any]:
    """What a run's record says of the arguments, the faces and the training."""
    return {
        "arguments": args.describe(),
        "processes": args.training.world_size,
        "data": describe_splits(faces.splits)
        | {"seed": args.training.data_seed or 0}
        | {"also_trained_on": args.mixture.describe_sets(faces.other_sets)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "best_step": trainer.state.best_global_step,
        "best_metric": {args.training.metric_for_best_model: trainer.state.best_metric},
        "log_history": trainer.state.log_history,
    }


@contextmanager
def full_disk_explained(args: Arguments, output_dir: Path) -> Iterator[None]:
    """While the result is written.

    Raises:
        CheckpointError: it could not be; the message names the checkpoint to go on from.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # what a full disk comes out as
        raise CheckpointError(
            f"The trained model could not be written to {output_dir}: {error}. Is the disk full? "
            f"{way_back(Path(args.training.output_dir))} Make room, and add --resume_from_checkpoint true."
        ) from error


def train(args: Arguments, beginning: dict[str, Any], resume_from: str | None, output_dir: Path) -> AgeGenderTrainer:
    """Train, calibrate and save the model with its record, which says that the run is trained."""
    cost = RunCost(beginning, resume_from)
    set_seed(args.training.seed)
    faces = prepare_faces(args)
    if not args.data.streaming:
        args.report.check_labels(faces.splits["test"])
    trainer = build_trainer(args, faces)
    trainer.add_callback(cost)
    trainer.train(resume_from_checkpoint=resume_from)
    model = trainer.whole_model()
    calibration = calibrate(trainer, model, faces.decoded["validation"], args.report.gender_target_accuracy)
    if trainer.is_world_process_zero():
        with full_disk_explained(args, output_dir):
            save_model_folder(model, trainer.processing_class, output_dir)
        ended_on = {"hardware": beginning["hardware"]}  # like `processes`, of the last start
        # described when the model is saved: a stream is read once more for it, and may fail
        record = cost.beginning | ended_on | cost.total() | describe_end(args, faces, trainer, model)
        with full_disk_explained(args, output_dir):
            save_run_record(output_dir / RUN_RECORD, record | {"calibration": asdict(calibration)})
    trainer.accelerator.wait_for_everyone()
    return trainer


def main(argv: Sequence[str]) -> None:
    args = Arguments.parse(argv)
    training_args, output_dir = args.training, Path(args.training.output_dir)
    resume, resume_from = training_args.resume_from_checkpoint, None
    trained = is_trained(output_dir, resume, report=args.report.report, push=training_args.push_to_hub)
    beginning = {} if trained else describe_beginning(argv, args)
    # Checkpoints lie beside the result, so that the result holds what is published and nothing else.
    training_args.output_dir = str(output_dir.with_name(output_dir.name + ".checkpoints"))
    if not trained:
        resume_from = checkpoint_to_resume(Path(training_args.output_dir), output_dir, resume)
    if args.data.streaming and training_args.max_steps <= 0:
        raise RecipeError("A stream does not say how long it is: set max_steps, the number of batches to train on.")
    repo_id = repository_to_push_to(args, output_dir)
    training_args.push_to_hub = False  # by the Trainer: it would push checkpoints, without code or card
    writes_onnx = args.report.writes_onnx(pushes=repo_id is not None)
    training_args.run_name = training_args.run_name or output_dir.name  # by which trackers know it

    if not trained:
        check_shared(Path(training_args.output_dir), resume_from, training_args)
    trainer = None if trained else train(args, beginning, resume_from, output_dir)
    if args.report.report:
        write_report(args, output_dir, repo_id, writes_onnx, trainer)
    if repo_id and training_args.process_index == 0:
        push_folder(output_dir, repo_id, private=training_args.hub_private_repo)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, SafetensorError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
