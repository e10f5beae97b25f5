"""Train the two-head model from a recipe: `python -m trainer.train trainer/recipes/vit_tiny.yaml [--name value ...]`.

The same command under `accelerate launch -m trainer.train ...` trains in several processes. The result, `outputs/<run>/`,
is a model folder: weights, code, card and figures, ready to be served or pushed.
"""

import copy
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import ViTImageProcessorPil, set_seed

from model.errors import AgeGenderError
from model.modeling_age_gender import AgeGenderModel
from model_card.output_files import only_writer
from model_card.push import push_folder
from model_card.run_record import license_problem
from trainer.arguments import Arguments, RunArguments
from trainer.build_model import build_model_for, check_model
from trainer.calibration import Calibration, calibrate
from trainer.callbacks import RunCost
from trainer.checkpoints import check_room, checkpoint_to_resume, full_disk_explained, is_trained
from trainer.data.loading import stream_without_pauses
from trainer.data.mixture import TrainingFaces, decode_sets, load_sets
from trainer.data.transforms import BatchTransform
from trainer.devices import keep_freed_memory
from trainer.distillation.distill import Distillation, FacesWithTargets, collate_targets, read_targets
from trainer.distillation.embeddings import AgeGenderEmbeddingModel, read_embedding_sets
from trainer.finetuning import TrainedModels, describe_trained
from trainer.metrics import build_compute_metrics
from trainer.publishing import (
    evaluate_on_test,
    export_to_onnx,
    repository_to_push_to,
    save_model_folder,
    track_report,
    write_card,
)
from trainer.recipe import RecipeError, recipe_path
from trainer.run_record import describe_hardware, describe_splits, describe_start, save_run_record
from trainer.trainer import AgeGenderTrainer


def main(argv: Sequence[str]) -> None:
    """
    Args:
        argv: `[recipe.yaml] [--name value ...]`.

    Raises:
        AgeGenderError: something that the user can mend; as far as possible before training.
    """
    args = Arguments.parse(argv)
    is_main_process = args.training.process_index == 0
    with only_writer(Path(args.training.output_dir), "--output_dir") if is_main_process else nullcontext():
        run(args, recipe_path(argv))


def run(args: Arguments, recipe: Path | None) -> None:
    """All that a start does, from the checks to the push.

    Args:
        recipe: the file that `args` were read from, for the record.
    """
    if args.training.device.type == "cpu":  # this and the next one change the whole process
        keep_freed_memory()
    if args.data.streaming:
        stream_without_pauses()
    output_dir = Path(args.training.output_dir)
    # Checkpoints lie beside the result, which holds nothing but what is published.
    checkpoint_dir = output_dir.with_name(output_dir.name + ".checkpoints")
    is_main_process = args.training.process_index == 0

    # Check all that can be known before training: names, tokens, packages, and what lies there already.
    exports_onnx = args.report.exports_onnx(pushes=args.training.push_to_hub)
    repo_id = repository_to_push_to(args.training, output_dir, report=args.report.report)
    trained = is_trained(output_dir, args.training, report=args.report.report)
    trainer = None
    if not trained:
        resume_from = checkpoint_to_resume(checkpoint_dir, output_dir, args.training)
        learns_from, distillation = check_before_training(args, checkpoint_dir)

        # Load the faces, build the model, train and calibrate it.
        device = args.training.device
        start = describe_start(recipe, device, args.paths, learns_from.finetuned, learns_from.teachers)
        run_cost = RunCost(start, resume_from)
        set_seed(args.training.seed)
        faces = prepare_faces(args, learns_from)
        if not args.data.streaming:
            args.training.check_batch(len(faces.train))
            args.report.check_labels(faces.splits["test"])
        model, processor = build_model_for(args.model, faces.train_rows)
        training_args = trainer_arguments(args.training, checkpoint_dir)
        trainer = build_trainer(args._replace(training=training_args), faces, model, processor, distillation)
        trainer.add_callback(run_cost)

        trainer.train(resume_from_checkpoint=resume_from)
        model = trainer.whole_model()
        calibration = calibrate(
            trainer,
            model,
            list(zip(args.dataset_names, faces.validation, strict=True)),
            args.report.gender_target_accuracy,
            finetuned_from=learns_from.finetuned["model"] if learns_from.finetuned else None,
        )

        # Save the model and the run's record.
        if is_main_process:
            with full_disk_explained(output_dir, checkpoint_dir):
                save_model_folder(model, processor, output_dir)
            # after the model: to describe a stream is to read it again, which may fail
            result = describe_result(args, faces, trainer, model, calibration)
            with full_disk_explained(output_dir, checkpoint_dir):
                save_run_record(output_dir, run_cost.beginning | run_cost.total() | result)
        trainer.accelerator.wait_for_everyone()

    # Evaluate, export, describe and push what was saved. A start that resumes after training begins here.
    if args.report.report:
        evaluate_on_test(output_dir, args.data)
        if is_main_process:
            if exports_onnx:
                export_to_onnx(output_dir, args.data)
            write_card(output_dir, repo_id)
            if trainer:
                track_report(trainer, output_dir)
            print(f"{output_dir} holds the model, its scores and its card. Try it: MODEL_ID={output_dir} python app.py")
    if repo_id and is_main_process:
        push_folder(output_dir, repo_id, private=args.training.hub_private_repo)


def check_before_training(args: Arguments, checkpoint_dir: Path) -> tuple[TrainedModels, Distillation | None]:
    """
    Returns:
        The models that the run learns from, and its teachers, as `check_trained_models` and `load_teachers`.

    Raises:
        AgeGenderError: the model cannot be built or learnt as asked, the disk has no room for it, its weights cannot be
            under the licence that is named, or as `check_trained_models` and `load_teachers`.
    """
    learning, weights_bytes = args.learning, check_model(args.model)
    learning.check(args.training, embeds=bool(args.distillation.embeddings))
    check_room(checkpoint_dir, weights_bytes, args.training, muon=learning.muon, ema=learning.ema_decay > 0)
    distillation = load_teachers(args)
    models = check_trained_models(args, distillation)
    problem = license_problem(
        {"arguments": args.describe(), "started_from": models.finetuned, "taught_by": models.teachers}
    )
    if problem:
        raise RecipeError(problem)
    return models, distillation


def load_teachers(args: Arguments) -> Distillation | None:
    """The teachers, if there are any. Embeddings are read too, to find now what is wrong with them.

    Raises:
        RecipeError: a teacher or a file cannot be loaded, or predicts other years or genders than the student learns; or
            there are files beside a stream, whose faces they cannot be matched with beforehand.
    """
    asked = args.distillation
    if args.data.streaming and (asked.files or asked.embeddings):
        raise RecipeError("Files of soft targets and embeddings need the set whole: leave out streaming.")
    if asked.embeddings:
        read_embedding_sets(asked.embeddings)
    return (
        Distillation(asked, args.model.config(), args.training.device, args.training.bf16) if asked.teachers else None
    )


def check_trained_models(args: Arguments, distillation: Distillation | None) -> TrainedModels:
    """
    Returns:
        The model that the run fine-tunes, and its teachers.

    Raises:
        RecipeError: one of them has no record that can be read, or was trained on one of the sets, split by another seed.
    """
    name, revision = args.model.finetune_from, args.model.finetune_revision
    finetuned = describe_trained(name, revision, "finetune_from") if name else None
    models = TrainedModels(finetuned, distillation.describe_teachers() if distillation else [])
    models.check_same_seed(args.dataset_names, args.data_seed)
    return models


def prepare_faces(args: Arguments, learns_from: TrainedModels) -> TrainingFaces:
    """Clean, split and decode every set. The main process does it for all of them; `datasets` keeps the result on disk.

    Raises:
        RecipeError: a model that the run learns from was trained on other splits.
        DatasetError: no such set, or one that cannot be used.
    """
    with args.training.main_process_first(desc="preparing the faces"):
        sets = load_sets(args.data, args.mixture, args.data_seed)
        learns_from.check_same_splits(zip(args.dataset_names, sets, strict=True))
        return decode_sets(sets, args.mixture, *args.model.decoded_sizes, args.data.num_proc)


def trainer_arguments(args: RunArguments, checkpoint_dir: Path) -> RunArguments:
    """What the Trainer is told: it writes to the folder of checkpoints, and leaves the push to `main`.

    The Trainer would push its checkpoints, without code and card.
    """
    told = copy.copy(args)  # dataclasses.replace would set up the devices a second time
    told.output_dir = str(checkpoint_dir)
    told.run_name = args.run_name or Path(args.output_dir).name  # the name that trackers show
    told.push_to_hub = False
    return told


def build_trainer(
    args: Arguments,
    faces: TrainingFaces,
    model: AgeGenderModel,
    processor: ViTImageProcessorPil,
    distillation: Distillation | None = None,
) -> AgeGenderTrainer:
    """The Trainer of `model` on `faces`, as `args` say: with Muon, augmentation and so on where they ask for it.

    Args:
        distillation: the teachers, see `load_teachers`.
    """
    soft_targets = distillation.soft_targets if distillation else []
    train_faces, targets = faces.train, read_targets(args.distillation.embeddings, soft_targets, faces.train_rows)
    if "embeddings" in targets:
        size = targets["embeddings"].shape[1]
        model = AgeGenderEmbeddingModel.around(model, size, args.distillation.embedding_loss_weight)
    if targets:
        train_faces = FacesWithTargets(train_faces, targets)
    return AgeGenderTrainer(
        model=model,
        args=args.training,
        train_dataset=train_faces,
        eval_dataset=faces.validation[0],
        data_collator=collate_targets,
        compute_metrics=build_compute_metrics(model.config),
        processing_class=processor,
        callbacks=args.learning.callbacks(),
        batch_transform=BatchTransform(
            model.config.image_size, processor.image_mean, processor.image_std, args.augmentation
        ),
        train_resolutions=args.model.train_resolutions or (),
        l1_penalty=args.learning.l1_penalty,
        muon=args.learning.muon,
        ema_decay=args.learning.ema_decay,
        distillation=distillation,
    )


def describe_result(
    args: Arguments, faces: TrainingFaces, trainer: AgeGenderTrainer, model: AgeGenderModel, calibration: Calibration
) -> dict[str, Any]:
    """The part of the run's record that is known after training."""
    return {
        "hardware": describe_hardware(args.training.device),  # of the last start, as `processes`
        "arguments": args.describe(),
        "processes": args.training.world_size,
        "data": describe_splits(faces.splits)
        | {"seed": args.data_seed}
        | {"also_trained_on": args.mixture.describe_sets(faces.other_sets)},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "best_step": trainer.state.best_global_step,
        "best_metric": {args.training.metric_for_best_model: trainer.state.best_metric},
        "log_history": trainer.state.log_history,
        "calibration": asdict(calibration),
    }


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AgeGenderError as error:
        sys.exit(f"{type(error).__name__}: {error}")
