"""Learning from teachers: the loss, what a run does with it, and what is refused before anything is trained."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from model.configuration_age_gender import AgeGenderConfig
from scripts.write_soft_targets import read_arguments, write_soft_targets
from tests.support.tiny_model import IMAGE_SIZE, save_tiny_model
from tests.support.training_runs import EVERY_FIVE_STEPS, UNVARIED, arguments, losses, record_of
from trainer.build_model import make_image_processor
from trainer.data.arguments import DataArguments
from trainer.distillation.distill import soft_divergence
from trainer.distillation.teachers import SoftTargets, Teacher, mean_predictions
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.recipe import RecipeError
from trainer.train import main


pytestmark = pytest.mark.usefixtures("single_thread")
TAUGHT = ["--distillation_weight", "0.75", "--save_total_limit", "9", *EVERY_FIVE_STEPS]
STUDENT = AgeGenderConfig()


@pytest.fixture(scope="module")
def teachers(tmp_path_factory) -> list[str]:
    """Two models that hold everybody for about 60; the second looks at larger pictures that are normalised otherwise."""
    folders = [tmp_path_factory.mktemp("teachers") / name for name in ("first", "second")]
    for seed, (folder, size) in enumerate(zip(folders, (IMAGE_SIZE, 48), strict=True)):
        model = save_tiny_model(folder, seed=seed, image_size=size)
        model.age_head.bias.data = -((torch.arange(117) - 60.0) ** 2) / 50
        model.save_pretrained(folder)
    processor = make_image_processor(48, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25])
    processor.save_pretrained(folders[1])
    return [str(folder) for folder in folders]


@pytest.fixture(scope="module")
def taught_run(faces, teachers, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("outputs") / "run"
    main(arguments(faces, output_dir, "--teachers", *teachers, *TAUGHT))
    return output_dir


def soft_losses(output_dir: Path) -> list[float]:
    return [entry["soft_loss"] for entry in record_of(output_dir)["log_history"] if "soft_loss" in entry]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_divergence_is_that_of_softened_distributions(temperature):
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    expected = F.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
    )
    got = soft_divergence(student, teacher.softmax(1), temperature)
    torch.testing.assert_close(got, expected * temperature**2)
    assert soft_divergence(teacher, teacher.softmax(1), temperature) == pytest.approx(0, abs=1e-6)


def test_teachers_are_averaged_with_each_other_and_with_their_flips(teachers):
    torch.manual_seed(0)
    images = torch.rand(3, 3, 48, 48)
    on_cpu = {"device": torch.device("cpu"), "bf16": False}
    loaded = [Teacher.load(name, STUDENT, flip_tta=True, **on_cpu) for name in teachers]
    ages, genders = mean_predictions(loaded, images, bf16=False)
    expected = []
    for teacher, size in zip(loaded, (IMAGE_SIZE, 48), strict=True):
        teacher.model.config.flip_tta = False
        seen = F.interpolate(images, size, mode="bilinear", antialias=True)
        mean, std = torch.tensor([0.5] * 3), torch.tensor([0.5] * 3)
        if size == 48:
            mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
        seen = (seen - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        logits = (teacher.model(seen).age_logits + teacher.model(seen.flip(-1)).age_logits) / 2
        expected.append(logits.softmax(1))
    torch.testing.assert_close(ages, sum(expected) / 2)
    torch.testing.assert_close(genders.sum(1), torch.ones(3))


def test_the_student_comes_nearer_to_its_teachers(taught_run):
    soft = soft_losses(taught_run)
    assert np.mean(soft[-5:]) < 0.5 * soft[0]


def test_the_loss_is_shared_between_teachers_and_labels(taught_run):
    for entry in record_of(taught_run)["log_history"]:
        if "soft_loss" in entry:
            shared = 0.75 * entry["soft_loss"] + 0.25 * (entry["age_loss"] + entry["gender_loss"])
            assert entry["loss"] == pytest.approx(shared, rel=1e-3)


def test_the_record_names_the_teachers(taught_run):
    record = record_of(taught_run)
    assert [teacher["model"] for teacher in record["taught_by"]] == ["first", "second"]
    assert record["arguments"]["teachers"] == ["first", "second"]
    assert str(taught_run.parents[1]) not in json.dumps(record)


def test_a_resumed_run_ends_with_the_same_weights(taught_run, faces, teachers, tmp_path):
    checkpoint = taught_run.with_name("run.checkpoints") / "checkpoint-35"
    shutil.copytree(checkpoint, tmp_path / "run.checkpoints" / checkpoint.name)
    again = ["--teachers", *teachers, *TAUGHT]
    main(arguments(faces, tmp_path / "run", *again, "--resume_from_checkpoint", "true"))
    assert losses(record_of(tmp_path / "run")) == losses(record_of(taught_run))
    whole, resumed = ((folder / "run" / "model.safetensors").read_bytes() for folder in (taught_run.parent, tmp_path))
    assert whole == resumed


@pytest.fixture(scope="module")
def targets_file(faces, teachers, tmp_path_factory) -> Path:
    """What both teachers say of the pictures as they are."""
    path = tmp_path_factory.mktemp("targets") / "targets.npz"
    own = ["--output_file", str(path), "--views", "1", "--teachers", *teachers, "--train_image_size", "48"]
    write_soft_targets(*read_arguments([*arguments(faces, path.with_suffix("")), *own]))
    return path


def test_the_teachers_are_scored_on_validation_faces(faces, teachers, tmp_path, capsys):
    own = ["--views", "1", "--teachers", teachers[0], "--teacher_flip_tta", "false"]
    assert write_soft_targets(*read_arguments([*arguments(faces, tmp_path / "run"), *own])) is None
    printed = re.search(
        r"on 25 validation faces of faces: age_mae ([\d.]+), .* gender_accuracy ([\d.]+)", capsys.readouterr().out
    )
    measured = evaluate_model(
        EvaluationArguments(model=teachers[0], split="validation", draws=10, output_dir=str(tmp_path)),
        DataArguments(dataset=str(faces)),
    )
    expected = measured["age"]["mae"]["value"], measured["gender"]["accuracy"]["value"]
    assert tuple(map(float, printed.groups())) == pytest.approx(expected, abs=0.01)


def test_a_file_says_what_the_teachers_say(faces, teachers, targets_file, tmp_path):
    """Where crops are not varied, a student learns the same from both."""
    runs = []
    for name, taught_by in (
        ("models", teachers),
        ("file", [str(targets_file)]),
        ("both", [str(targets_file), *teachers]),
    ):
        fixed = [*UNVARIED, "--train_image_size", "48", "--num_train_epochs", "1"]
        main(arguments(faces, tmp_path / name, *fixed, "--teachers", *taught_by))
        runs.append(soft_losses(tmp_path / name))
    np.testing.assert_allclose(runs[1], runs[0], rtol=0.01)
    np.testing.assert_allclose(runs[2], runs[0], rtol=0.01)
    assert [teacher["model"] for teacher in record_of(tmp_path / "file")["taught_by"]] == ["first", "second"]


def test_what_is_written_is_read(targets_file):
    targets = SoftTargets.load(targets_file)
    assert targets.gender_names == ["male", "female"]
    assert len(set(targets.pictures.tolist())) == len(targets.pictures) == 190
    np.testing.assert_allclose(targets.age_probs.sum(axis=1), 1, atol=1e-6)


def other_max_age(folder: Path) -> str:
    save_tiny_model(folder / "teacher", max_age=100)
    return str(folder / "teacher")


def other_genders(folder: Path) -> str:
    save_tiny_model(folder / "teacher", gender_names=["female", "male"])
    return str(folder / "teacher")


def another_kind(folder: Path) -> str:
    (folder / "teacher").mkdir()
    (folder / "teacher" / "config.json").write_text('{"model_type": "vit"}')
    return str(folder / "teacher")


def without_weights(folder: Path) -> str:
    save_tiny_model(folder / "teacher")
    (folder / "teacher" / "model.safetensors").unlink()
    return str(folder / "teacher")


def half_the_weights(folder: Path) -> str:
    save_tiny_model(folder / "teacher")
    path = folder / "teacher" / "model.safetensors"
    save_file({name: values for name, values in load_file(path).items() if "head" not in name}, path, {"format": "pt"})
    return str(folder / "teacher")


def trained_on_other_splits(folder: Path) -> str:
    save_tiny_model(folder / "teacher")
    run = {"arguments": {"dataset": "faces"}, "data": {"splits_sha256": "0", "seed": 7}, "seconds": 1}
    (folder / "teacher" / "training_run.json").write_text(json.dumps(run))
    return str(folder / "teacher")


def no_file(folder: Path) -> str:
    return str(folder / "targets.npz")


def write_targets(folder: Path, **changes) -> str:
    rows = changes.pop("rows", 3)
    values = {
        "pictures": np.array([f"picture {row}" for row in range(rows)]),
        "age_probs": np.full((rows, 117), 1 / 117),
        "gender_probs": np.full((rows, 2), 0.5),
        "gender_names": ["male", "female"],
    }
    SoftTargets(**values | changes).save(folder / "targets.npz")
    return no_file(folder)


def not_an_archive(folder: Path) -> str:
    Path(no_file(folder)).write_text("ages")
    return no_file(folder)


def another_archive(folder: Path) -> str:
    np.savez(no_file(folder), ages=np.zeros(3))
    return no_file(folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "nothing"), "teachers: .*nothing"),
        (other_max_age, "knows the years 0 to 100, the student learns 0 to 116"),
        (other_genders, "the genders of .* are female, male, those of the student male, female"),
        (another_kind, "a model of type 'vit', expected 'age_gender'"),
        (without_weights, "no model of this kind at"),
        (half_the_weights, "do not fit its configuration"),
        (trained_on_other_splits, "trained on faces with data_seed 7"),
        (no_file, "holds no soft targets: FileNotFoundError"),
        (not_an_archive, "holds no soft targets"),
        (another_archive, "holds no soft targets"),
        (write_targets, "lacks 190 of the 190 training pictures, such as "),
        (
            lambda folder: write_targets(folder, age_probs=np.full((3, 101), 1 / 101)),
            "targets.npz knows the years 0 to 100",
        ),
        (
            lambda folder: write_targets(folder, gender_names=["female", "male"]),
            "the genders of .*targets.npz are female, male",
        ),
        (lambda folder: write_targets(folder, age_probs=np.full((3, 117), np.nan)), "a row must sum to 1"),
        (lambda folder: write_targets(folder, gender_probs=np.full((2, 2), 0.5)), "one row each was expected"),
        (
            lambda folder: write_targets(folder, gender_probs=np.full((3, 3), 1 / 3)),
            "male, female, but it has 3 columns",
        ),
    ],
)
def test_teachers_that_cannot_teach(faces, tmp_path, make, message):
    with pytest.raises(RecipeError, match=message):
        main(arguments(faces, tmp_path / "run", "--teachers", make(tmp_path)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("distillation_weight", "1.5"), ("distillation_temperature", "0"), ("embedding_loss_weight", "-1")],
)
def test_arguments_out_of_range(faces, tmp_path, name, value):
    with pytest.raises(RecipeError, match=f"{name} must .*, got {value}"):
        main(arguments(faces, tmp_path / "run", f"--{name}={value}"))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["--output_file", "nowhere/targets.npz"], "in a folder that there is"),
        (["--output_file", "targets.csv"], "must be a new .npz file"),
        (["--output_file", "targets.npz", "--views", "0"], "--views must be 1 or more"),
        (["--output_file", "targets.npz"], "Name the models whose predictions"),
    ],
)
def test_soft_targets_that_cannot_be_written(faces, tmp_path, own, message):
    with pytest.raises(RecipeError, match=message):
        read_arguments([*arguments(faces, tmp_path / "run"), *own])
