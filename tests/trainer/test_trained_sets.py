"""A run knows the training sets of the model it fine-tunes, and of the models that one was fine-tuned from."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from model_card.run_record import trained_on_other_splits
from scripts import cross_validate
from scripts.tune import main as tune
from tests.support.made_up_faces import write_utkface_folder
from tests.support.tiny_model import save_tiny_model
from trainer.arguments import Arguments
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.finetuning import TrainedModels, describe_trained
from trainer.recipe import RecipeError
from trainer.run_record import describe_splits
from trainer.train import check_trained_models, main, prepare_faces


ROOT = Path(__file__).parents[2]


def write_run(folder: Path, dataset: str, splits: str, start: Path | None = None) -> dict:
    run = {
        "arguments": {"dataset": dataset},
        "data": {"splits_sha256": splits, "seed": 0, "also_trained_on": [{"dataset": "both", "splits_sha256": "b"}]},
        "seconds": 60,
        "started_from": start and describe_trained(str(start), None, "finetune_from"),
    }
    folder.mkdir(exist_ok=True)
    (folder / "training_run.json").write_text(json.dumps(run))
    return run


def test_three_runs_in_a_row(tmp_path):
    write_run(tmp_path / "first", "faces", "1")
    write_run(tmp_path / "second", "others", "2", tmp_path / "first")
    third = write_run(tmp_path / "third", "renamed", "2", tmp_path / "second")
    assert third["started_from"]["seconds"] == 120
    assert [known["dataset"] for known in third["started_from"]["trained_on"]] == ["others", "both", "faces"]
    assert trained_on_other_splits(third) == ["faces"], "the same splits under another name are the same pictures"


def test_sets_of_teachers_count_too(tmp_path):
    teacher = write_run(tmp_path / "teacher", "faces", "1")
    student = write_run(tmp_path / "student", "others", "2")
    student["taught_by"] = [describe_trained(str(tmp_path / "teacher"), None, "teachers")]
    assert trained_on_other_splits(student) == ["faces"]
    (tmp_path / "student" / "training_run.json").write_text(json.dumps(student))
    known = describe_trained(str(tmp_path / "student"), None, "teachers")["trained_on"]
    assert [one["dataset"] for one in known] == ["others", "both", "faces"]
    assert trained_on_other_splits(teacher) == []


def test_another_seed_would_train_on_what_was_held_out(tmp_path):
    save_tiny_model(tmp_path / "first")
    write_run(tmp_path / "first", "faces", "1")
    recipe = [str(ROOT / "trainer/recipes/fine_tune.yaml"), "--finetune_from", str(tmp_path / "first")]
    recipe += ["--dataset", str(tmp_path / "faces"), "--output_dir", str(tmp_path / "second"), "--use_cpu", "true"]
    with pytest.raises(RecipeError, match=r"trained on faces with data_seed 0; with 1 .* Set data_seed: 0\."):
        main([*recipe, "--data_seed", "1"])
    first = TrainedModels(describe_trained(str(tmp_path / "first"), None, "finetune_from"), [])
    first.check_same_seed(["faces"], seed=0)
    first.check_same_seed(["other faces"], seed=1)


@pytest.fixture
def fine_tuning(tmp_path) -> list[str]:
    """Arguments that fine-tune a model on the set and splits it was trained on."""
    args = DataArguments(dataset=str(write_utkface_folder(tmp_path / "faces", count=60, size=40)))
    save_tiny_model(tmp_path / "first")
    write_run(tmp_path / "first", "faces", describe_splits(load_faces(args, seed=0))["splits_sha256"])
    recipe = [str(ROOT / "trainer/recipes/fine_tune.yaml"), "--finetune_from", str(tmp_path / "first")]
    recipe += ["--dataset", args.dataset, "--output_dir", str(tmp_path / "second"), "--use_cpu", "true"]
    return [*recipe, "--num_train_epochs", "1", "--disable_tqdm", "true"]


def test_splits_of_the_same_seed_may_differ_too(fine_tuning):
    refused = pytest.raises(RecipeError, match=r"first was trained on other splits of faces: .* without folds")
    for other in (["--test_fraction", "0.3"], ["--split_by", "picture_purged", "--validation_fraction", "0.2"]):
        with refused:
            main([*fine_tuning, *other])
    with refused:
        cross_validate.main([*fine_tuning, "--folds", "3"])
    with refused:
        tune([*fine_tuning, "--test_fraction", "0.3", "--metric_for_best_model", "age_mae"])
    args = Arguments.parse(fine_tuning)
    prepare_faces(args, check_trained_models(args, None))


def test_a_set_under_another_name_of_its_family_is_not_taken_for_another(tmp_path):
    known = DatasetDict(train=Dataset.from_dict({"group": ["a", "b"]}))
    write_run(tmp_path / "start", "FairFace-train-40k.tar.gz", describe_splits(known)["splits_sha256"])
    start = TrainedModels(describe_trained(str(tmp_path / "start"), None, "finetune_from"), [])
    other = DatasetDict(train=known["train"].select([0]))
    for name in ("HuggingFaceM4/FairFace", "fairface"):
        with pytest.raises(RecipeError, match=r"was trained on other splits of FairFace-train-40k.tar.gz"):
            start.check_same_splits([(name, other)])
        start.check_same_splits([(name, known)])
    start.check_same_splits([("nu-delta/utkface", other)])


def test_weights_of_unknown_training(tmp_path):
    start = describe_trained(str(tmp_path), None, "finetune_from")
    assert (start["trained_on"], start["seconds"]) == ([], None)
    (tmp_path / "again").mkdir()
    run = {
        "arguments": {"dataset": "mine"},
        "data": {"splits_sha256": "m", "seed": 0},
        "seconds": 60,
        "started_from": start,
    }
    (tmp_path / "again" / "training_run.json").write_text(json.dumps(run))
    assert describe_trained(str(tmp_path / "again"), None, "finetune_from")["seconds"] is None
