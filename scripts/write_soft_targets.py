"""Write the teachers' soft targets for every training picture of a recipe, for `teachers: [targets.npz]`.

    python -m scripts.write_soft_targets trainer/recipes/student.yaml --teachers outputs/teacher_faceres model
        --output_file outputs/targets.npz --views 4 --dataset UTKFace.tar.gz

Cheaper than teachers that predict for every crop in every epoch; but the student then learns the same targets for all
augmentations of a picture. The first view is the crop as it is, the others are augmented as the recipe says (each with
horizontal-flip test-time augmentation, unless `--teacher_flip_tta false`): a teacher is less overconfident on augmented views
of a picture that it was trained on.

It begins with how well the teachers' mean does on the validation faces of each set: what a student can hope for. Without
--output_file that is all.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import set_seed

from model.configuration_age_gender import AgeGenderConfig
from scripts.command import errors_explained
from trainer.arguments import Arguments
from trainer.data.transforms import BatchTransform, age_bounds, collate_faces
from trainer.distillation.distill import Distillation
from trainer.distillation.teachers import SoftPredictions, SoftTargets
from trainer.metrics import METRICS, AgeGenderMetric
from trainer.recipe import RecipeError
from trainer.train import check_trained_models, prepare_faces


def read_arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, Arguments]:
    """This command's own arguments, and the recipe's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_file", help="Where to write, an .npz file; without it the teachers are only scored.")
    parser.add_argument("--views", type=int, default=4, help="Augmented crops of each picture to average over.")
    args, others = parser.parse_known_args(argv)
    if args.views < 1:
        raise RecipeError(f"--views must be 1 or more, got {args.views}.")
    output = args.output_file and Path(args.output_file)
    if output and not (output.parent.is_dir() and output.suffix == ".npz"):
        raise RecipeError(f"--output_file must be a new .npz file in a folder that there is, got {args.output_file}.")
    recipe = Arguments.parse(others)
    if not recipe.distillation.models or recipe.distillation.files:
        raise RecipeError("Name the models whose predictions are to be written: folders or Hub ids, with --teachers.")
    return args, recipe


@torch.inference_mode()
def predict(
    faces: Dataset, distillation: Distillation, transform: BatchTransform, views: int, batch_size: int
) -> SoftPredictions:
    """The mean over the teachers and the views of every decoded face, (N, ...) each on the CPU."""
    size, parts = distillation.view_size(transform.image_size), []
    device = transform.mean.device
    for batch in tqdm(DataLoader(faces, batch_size=batch_size, collate_fn=collate_faces), desc="Predicting"):
        pixels = batch["pixel_values"].to(device)
        seen = [transform(pixels, augment=view > 0, size=size) for view in range(views)]
        predictions = [distillation.predict(transform.to_rgb(images), None) for images in seen]
        parts.append([torch.stack(values).mean(dim=0).cpu() for values in zip(*predictions, strict=True)])
    return SoftPredictions(*(torch.cat(values) for values in zip(*parts, strict=True)))


def format_scores(soft: SoftPredictions, faces: Dataset, config: AgeGenderConfig) -> str:
    """The scores of the mean predictions for decoded validation faces, in the order of METRICS."""
    scores = AgeGenderMetric(config).compute(
        age_probs=soft.age_probs.double().numpy(),
        gender_probs=soft.gender_probs.double().numpy(),
        age_labels=age_bounds(faces),
        gender_labels=faces["gender"],
    )
    return ", ".join(f"{name} {scores[name]:.4f}" for name in METRICS if name in scores)


def write_soft_targets(args: argparse.Namespace, recipe: Arguments) -> SoftTargets | None:
    """Score the teachers, then predict for each training picture once, and write the file if one is named."""
    set_seed(recipe.training.seed)
    device = recipe.training.device
    config = recipe.model.base_config()
    distillation = Distillation(recipe.distillation, config, device, recipe.training.bf16)
    learns_from = check_trained_models(recipe, distillation)
    recipe.mixture.repeat = 1  # each picture once
    for one in recipe.mixture.sets:
        one.repeat = 1
    faces = prepare_faces(recipe, learns_from)
    transform = BatchTransform(recipe.model.decoded_sizes[0], [0.5] * 3, [0.5] * 3, recipe.augmentation).to(device)
    batch_size = recipe.training.per_device_eval_batch_size
    for name, validation in zip(recipe.dataset_names, faces.validation, strict=True):
        soft = predict(validation, distillation, transform, 1, batch_size)
        scores = format_scores(soft, validation, config)
        print(f"The teachers' mean on {len(validation):,} validation faces of {name}: {scores}", flush=True)
    if args.output_file is None:
        return None
    predictions = predict(faces.train, distillation, transform, args.views, batch_size)
    pictures = np.array([picture for part in faces.train_rows for picture in part["group"]])
    age_probs, gender_probs = (values.numpy() for values in predictions)
    targets = SoftTargets(pictures, age_probs, gender_probs, list(config.gender_names), learns_from.teachers)
    targets.save(args.output_file)
    count = len(recipe.distillation.models)
    print(f"{args.output_file}: the mean predictions of {count} teachers for {len(pictures):,} pictures.")
    return targets


def main(argv: Sequence[str]) -> None:
    write_soft_targets(*read_arguments(argv))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
