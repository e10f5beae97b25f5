"""Train the two-head model from a recipe: `python -m trainer.train trainer/recipes/vit_tiny.yaml [--name value ...]`.

The same command under `accelerate launch -m trainer.train ...` trains in several processes. The result, `outputs/<run>/`,
is a model folder: weights, code, card and figures, ready to be served or pushed.
"""

import copy
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import ViTImageProcessorPil, set_seed

from model.configuration_age_gender import AgeGenderConfig
from model.errors import AgeGenderError
from model.modeling_age_gender import AgeGenderModel
from model_card.push import push_folder
from trainer.arguments import Arguments, RunArguments
from trainer.build_model import build_weighted_model, check_model
from trainer.calibration import Calibration, calibrate
from trainer.callbacks import RunCost
from trainer.checkpoints import check_room, checkpoint_to_resume, full_disk_explained, is_trained, only_start
from trainer.data.loading import load_faces, stream_without_pauses
from trainer.data.mixture import load_sets, mix_training_faces, training_faces
from trainer.data.transforms import BatchTransform, decode_faces
from trainer.devices import keep_freed_memory
from trainer.distillation.distill import Distillation, FacesWithTargets, collate_targets, read_targets
from trainer.distillation.embedding_head import AgeGenderEmbeddingModel
from trainer.distillation.embeddings import read_embedding_sets
from trainer.distillation.soft_targets import SoftTargets
from trainer.finetuning import check_same_seed, check_same_splits, describe_finetuned
from trainer.metrics import build_compute_metrics
from trainer.publishing import (
    evaluate_on_test,
    export_to_onnx,
    repository_to_push_to,
    save_model_folder,
    write_card,
)
from trainer.recipe import RecipeError
from trainer.run_record import describe_hardware, describe_splits, describe_start, save_run_record
from trainer.tracking import track_report
from trainer.trainer import AgeGenderTrainer


def main(argv: Sequence[str]) -> None:
    """
    Args:
        argv: `[recipe.yaml] [--name value ...]`.

    Raises:
        AgeGenderError: something that the user can mend; as far as possible before training.
    """
    args = Arguments.parse(argv)
    with only_start(Path(args.training.output_dir), args.training):
        run(args, argv)


def run(args: Arguments, argv: Sequence[str]) -> None:
    """All that a start does, from the checks to the push.

    Args:
        argv: what `args` were read from.
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
        weights_bytes = check_model(args.model)
        learning = args.learning
        check_room(checkpoint_dir, weights_bytes, args.training, muon=learning.muon, ema=learning.ema_decay > 0)
        check_teachers(args)
        finetuned, teachers = describe_finetuned(args.model), args.distillation.describe_teachers()
        for trained_before in filter(None, [finetuned, *teachers]):
            check_same_seed(trained_before, args.dataset_names, args.data_seed)

        # Load the faces, build the model, train and calibrate it.
        run_cost = RunCost(describe_start(argv, args.paths, finetuned, teachers), resume_from)
        set_seed(args.training.seed)
        faces = prepare_faces(args, [finetuned, *teachers])
        if not args.data.streaming:
            args.training.check_batch(len(faces.decoded["train"]))
            args.report.check_labels(faces.splits["test"])
        model, processor = build_weighted_model(args.model, faces.splits["train"])
        training_args = trainer_arguments(args.training, checkpoint_dir)
        trainer = build_trainer(args._replace(training=training_args), faces, model, processor)
        trainer.add_callback(run_cost)

        trainer.train(resume_from_checkpoint=resume_from)
        model = trainer.whole_model()
        calibration = calibrate(
            trainer,
            model,
            faces.decoded["validation"],
            args.report.gender_target_accuracy,
            finetuned_from=finetuned["model"] if finetuned else None,
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
    if repo_id and is_main_process:
        push_folder(output_dir, repo_id, private=args.training.hub_private_repo)


class Faces(NamedTuple):
    """`splits` of the data set and of the `other_sets` to train on; `decoded`: train and validation of all of them.

    trained_on: the faces of decoded["train"] before they were decoded, in the same order, in one or more parts.
    """

    splits: DatasetDict | IterableDatasetDict
    other_sets: list[DatasetDict]
    decoded: DatasetDict | IterableDatasetDict
    trained_on: list[Dataset | IterableDataset]


def check_teachers(args: Arguments) -> None:
    """
    Raises:
        RecipeError: a teacher or a file cannot be loaded, or answers other questions than the student learns; or files
            beside a stream, whose faces they cannot be matched with beforehand.
    """
    config, distillation = args.model.base_config(), args.distillation
    load_teachers(args, config)
    for path in distillation.files:
        SoftTargets.load(path).check(path, config.max_age, config.gender_names)
    if distillation.embeddings:
        read_embedding_sets(distillation.embeddings)
    if args.data.streaming and (distillation.files or distillation.embeddings):
        raise RecipeError("Files of soft targets and embeddings need the set whole: leave out streaming.")


def load_teachers(args: Arguments, config: AgeGenderConfig) -> Distillation | None:
    """None where no teachers are named.

    Args:
        config: of the student.
    """
    if not args.distillation.teachers:
        return None
    return Distillation(args.distillation, config, args.training.device, args.training.bf16)


def prepare_faces(args: Arguments, trained_before: Sequence[dict[str, Any] | None]) -> Faces:
    """Clean, split and decode every set. The main process does it for all of them; `datasets` keeps the result on disk.

    Args:
        trained_before: what `describe_trained` says of the model to fine-tune and of the teachers; None counts as none.

    Raises:
        RecipeError: one of them was trained on other splits.
        DatasetError: no such set, or one that cannot be used.
    """
    with args.training.main_process_first(desc="preparing the faces"):
        splits = load_faces(args.data, seed=args.data_seed)
        other_sets = load_sets(args.mixture, splits, args.data_seed)
        for trained in filter(None, trained_before):
            check_same_splits(trained, zip(args.dataset_names, [splits, *other_sets], strict=True))
        image_size = args.model.image_size
        assert image_size is not None, "Arguments.parse resolves it"
        train_size = args.model.train_image_size or image_size
        decode = partial(decode_faces, image_size=image_size, train_size=train_size, num_proc=args.data.num_proc)
        if other_sets or args.mixture.repeat > 1:
            of_each_set = training_faces([splits, *other_sets])
            repeats = zip(of_each_set, args.mixture.repeats, strict=True)
            trained_on = [faces for faces, times in repeats for _ in range(times)]
            parts = [decode(DatasetDict(train=faces))["train"] for faces in of_each_set]
            decoded = decode(DatasetDict(validation=splits["validation"]))
            decoded["train"] = mix_training_faces(args.mixture, parts)
        else:
            trained_on, decoded = [splits["train"]], decode(splits)
    return Faces(splits, other_sets, decoded, trained_on)


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
    args: Arguments, faces: Faces, model: AgeGenderModel, processor: ViTImageProcessorPil
) -> AgeGenderTrainer:
    """The Trainer of `model` on `faces`, as `args` say: with Muon, teachers, augmentation and so on where they ask for it."""
    train_faces, targets = faces.decoded["train"], read_targets(args.distillation, model.config, faces.trained_on)
    if "embeddings" in targets:
        size = targets["embeddings"].shape[1]
        model = AgeGenderEmbeddingModel.around(model, size, args.distillation.embedding_loss_weight)
    if targets:
        train_faces = FacesWithTargets(train_faces, targets)
    return AgeGenderTrainer(
        model=model,
        args=args.training,
        train_dataset=train_faces,
        eval_dataset=faces.decoded["validation"],
        data_collator=collate_targets,
        compute_metrics=build_compute_metrics(model.config),
        processing_class=processor,
        callbacks=args.learning.callbacks(args.training),
        batch_transform=BatchTransform(
            model.config.image_size, processor.image_mean, processor.image_std, args.augmentation
        ),
        train_resolutions=args.model.train_resolutions or (),
        l1_penalty=args.learning.l1_penalty,
        muon=args.learning.muon,
        ema_decay=args.learning.ema_decay,
        distillation=load_teachers(args, model.config),
    )


def describe_result(
    args: Arguments, faces: Faces, trainer: AgeGenderTrainer, model: AgeGenderModel, calibration: Calibration
) -> dict[str, Any]:
    """The part of the run's record that is known after training."""
    return {
        "hardware": describe_hardware(),  # of the last start, as `processes`
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
