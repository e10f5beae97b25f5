"""What leaks are worth in a random split: train twice, with and without duplicates of the test pictures.

    python -m scripts.benchmarks.compare_splits trainer/recipes/vit_64px.yaml --dataset UTKFace.tar.gz --output_dir outputs/splits

Both arms use the same recipe and the same validation and test pictures of a plain random split. The first trains on all
other pictures, as is usual; the second without those that are duplicates of a validation or test picture
(`--split_by picture_purged`). The difference on the test pictures is what the leaks give.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator

from model.decoding_age_gender import estimate_age
from model.losses_age_gender import IGNORE_INDEX
from model.modeling_age_gender import AgeGenderModel
from model_card.output_files import write_atomically
from scripts.benchmarks.measuring import load_pipeline
from scripts.command import errors_explained
from trainer.arguments import Arguments
from trainer.data.loading import load_faces
from trainer.evaluation.inference import predict
from trainer.evaluation.predictions import Bootstrap, Predictions, mean_of
from trainer.experiments.runs import start_experiment, train_once
from trainer.metrics import exact_ages
from trainer.run_record import public_name


ARMS = {"random": "picture", "purged": "picture_purged"}


def run_arm(argv: Sequence[str], output_dir: Path, split_by: str) -> tuple[Predictions, dict[str, int], np.ndarray]:
    """Train one arm, unless that is done, and predict its test pictures.

    Returns:
        Predictions for the N test pictures, {split: number of pictures}, and a mask (N,) of those with a duplicate in train.
    """
    of_arm = [*argv, "--split_by", split_by]
    train_once(of_arm, output_dir)
    args = Arguments.parse(of_arm)
    faces = load_faces(args.data, seed=args.training.data_seed or 0)
    predictions, _ = predict(load_pipeline(output_dir), faces["test"], Accelerator(cpu=args.training.use_cpu))
    leaks = np.isin(np.asarray(faces["test"]["group"]), np.asarray(faces["train"]["group"]))
    return predictions, {name: len(split) for name, split in faces.items()}, leaks


def compare(
    random: Predictions, purged: Predictions, leaks: np.ndarray, estimate: Literal["median", "mean"]
) -> dict[str, Any]:
    """Scores of both arms and their difference (purged - random) with its 95 % interval: on all, leaked and other pictures.

    Each score counts the pictures whose age, or gender, is known exactly, and is left out where there are none.
    """
    ages, genders = exact_ages(random.age_labels), random.gender_labels
    scores = {
        "age_mae_years": (
            ages != IGNORE_INDEX,
            [np.abs(estimate_age(arm.age_probs, estimate) - ages) for arm in (random, purged)],
        ),
        "gender_accuracy": (
            genders != IGNORE_INDEX,
            [arm.gender_probs.argmax(axis=1) == genders for arm in (random, purged)],
        ),
    }
    bootstrap = Bootstrap(random.groups)
    result: dict[str, dict[str, Any]] = {}
    for part, faces in {"all": np.ones(len(leaks), bool), "leaked": leaks, "others": ~leaks}.items():
        result[part] = {"pictures": int(faces.sum())}
        for name, (is_known, values) in scores.items():
            known = faces & is_known
            if not known.any():
                continue
            with_leaks, without = (of_arm[known].astype(float) for of_arm in values)
            low, high = bootstrap.interval(mean_of(without - with_leaks), known)
            result[part][name] = {
                "random": with_leaks.mean(),
                "purged": without.mean(),
                "difference": {"value": (without - with_leaks).mean(), "low": low, "high": high},
            }
    return result


def format_comparison(result: dict[str, Any]) -> str:
    lines = [f"{'test pictures':28}{'random':>10}{'purged':>10}   difference [95 % interval]"]
    for part, scores in result["comparison"].items():
        for name, score in scores.items():
            if name != "pictures":
                gap = score["difference"]
                title = f"{part} ({scores['pictures']}), {'age MAE' if 'age' in name else 'gender'}"
                numbers = f"{score['random']:10.3f}{score['purged']:10.3f}"
                lines.append(f"{title:28}{numbers}   {gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    args = Arguments.parse(argv)
    folder = Path(args.training.output_dir)
    start_experiment(folder, {"both arms": args})
    random, random_sizes, leaks = run_arm(argv, folder / "random", ARMS["random"])
    purged, purged_sizes, left = run_arm(argv, folder / "purged", ARMS["purged"])
    if left.any() or not np.array_equal(random.groups, purged.groups):
        raise RuntimeError("The arms were not tested on the same pictures, or duplicates were left in training.")
    config = AgeGenderModel.config_class.from_pretrained(folder / "random")
    result = {
        "dataset": public_name(args.data.dataset),
        "pictures": {"random": random_sizes, "purged": purged_sizes},
        "comparison": compare(random, purged, leaks, config.age_estimate),
    }
    write_atomically(folder / "comparison.json", json.dumps(result, indent=2) + "\n")
    print(format_comparison(result))


if __name__ == "__main__":
    with errors_explained():
        main(sys.argv[1:])
