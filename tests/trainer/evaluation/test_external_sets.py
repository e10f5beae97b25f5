"""External test sets: what is measured on them, and which sets are none because the model was trained on them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.support.made_up_faces import write_noise
from tests.support.tiny_model import save_tiny_model
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_whole_set
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.evaluation.held_out import EvaluationError


def test_an_external_test_set_is_added(run, data_args, tmp_path, capsys):
    """A set with age ranges instead of ages, and a table instead of names."""
    rng = np.random.default_rng(7)
    lines = ["file_name,age_range,gender,race"]
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{('3-9', '20-29', '70+')[index % 3]},{('Male', 'Female')[index % 2]},Indian")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    external_args = DataArguments(dataset=str(tmp_path), cache_dir=data_args.cache_dir)
    evaluate_model(
        EvaluationArguments(model=str(run), split="all", external="other", draws=50, crop_sweep=True), external_args
    )
    metrics = json.loads((run / "metrics.json").read_text())
    external = metrics["outside"]["other"]
    assert metrics["split"] == "test"
    assert external["pictures"] == 40
    assert "age" not in external
    assert external["age_ranges"]["FairFace-9"]["accuracy"]["n"] == 40
    assert external["age_ranges"]["4 bins"]["accuracy"]["n"] == 40
    assert "14 ranges" not in external["age_ranges"]  # no label lies in one of them for certain
    assert {group["race"] for group in external["groups"] if "race" in group} == {"Indian"}
    capsys.readouterr()
    evaluate_model(EvaluationArguments(model=str(run), draws=50), data_args)
    printed = capsys.readouterr().out
    shown = printed[printed.index("External test set: other (all of ") :]
    for words in (
        "FairFace-9 accuracy, %",
        "baseline: 3-9",
        "4 bins accuracy, %",
        "gender accuracy, %",
        "answered at the stored threshold",
    ):
        assert words in shown
    assert "DIT825-5" not in shown  # a third of the labels reach over two of its ranges
    assert "other" in json.loads((run / "metrics.json").read_text())["outside"], (
        "lost by measuring the test split again"
    )


def test_a_set_that_was_trained_on_is_no_external_test_set(run, data_args, tmp_path):
    with pytest.raises(EvaluationError, match=r"This model was trained on faces: evaluate on its --split test"):
        evaluate_model(EvaluationArguments(model=str(run), split="all", external="other"), data_args)


def test_a_set_that_the_fine_tuned_model_was_trained_on_is_no_external_test_set(run, data_args, tmp_path):
    write_noise(tmp_path / "other", 20)
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "training_run.json").read_text())
    seen = [{"dataset": "other", "splits_sha256": "of other splits"}]
    record["started_from"] = {"model": "first", "revision": None, "trained_on": seen, "seconds": 1}
    (tmp_path / "run" / "training_run.json").write_text(json.dumps(record))
    with pytest.raises(EvaluationError, match="had been trained on other, in other splits"):
        evaluate_model(
            EvaluationArguments(model=str(tmp_path / "run"), split="all", external="other"),
            DataArguments(dataset=str(tmp_path / "other"), cache_dir=data_args.cache_dir),
        )


@pytest.mark.parametrize("kind", ["its own", "a further one", "one before"])
def test_another_name_of_a_training_set_makes_it_no_external_test_set(run, data_args, tmp_path, kind):
    write_noise(tmp_path / "utkface-unpacked", 20)
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "training_run.json").read_text())
    seen = {"dataset": "UTKFace.tar.gz", "splits_sha256": "of other splits"}
    if kind == "its own":
        record["arguments"]["dataset"] = seen["dataset"]
    elif kind == "a further one":
        record["data"]["also_trained_on"], record["arguments"]["also_train_on"] = (
            [seen],
            [{"dataset": "UTKFace.tar.gz"}],
        )
    else:
        record["started_from"] = {"model": "first", "revision": None, "trained_on": [seen], "seconds": 1}
    (tmp_path / "run" / "training_run.json").write_text(json.dumps(record))
    with pytest.raises(EvaluationError, match=r"other pictures than those of UTKFace.tar.gz, rename utkface-unpacked"):
        evaluate_model(
            EvaluationArguments(model=str(tmp_path / "run"), split="all", external="other"),
            DataArguments(dataset=str(tmp_path / "utkface-unpacked"), cache_dir=data_args.cache_dir),
        )


def test_the_options_of_the_training_run_are_told_as_they_are_typed(run, data_args, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "training_run.json").read_text())
    seen = {"dataset": data_args.dataset, "splits_sha256": "other"}
    record["arguments"] |= {"dataset": "mine", "also_train_on": [{"dataset": "faces", "dataset_splits": ["a", "b"]}]}
    record["data"]["also_trained_on"] = [seen | {"dataset": "faces"}]
    (tmp_path / "run" / "training_run.json").write_text(json.dumps(record))
    arguments = EvaluationArguments(model=str(tmp_path / "run"), external="other")
    with pytest.raises(EvaluationError, match="held out of it: --split test --dataset_splits a b"):
        evaluate_model(arguments, data_args)
    few = replace(data_args, max_samples=40)
    with pytest.raises(EvaluationError, match="give the splits of its run: no --max_samples"):
        evaluate_model(EvaluationArguments(model=str(run)), few)


def test_every_picture_of_an_external_test_set_counts(run, data_args, tmp_path):
    """Too few to be split, with two copies whose ages contradict each other; written elsewhere than beside the model."""
    rng = np.random.default_rng(8)
    noise = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(4)]
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate([*noise, noise[0]]):
        picture.save(tmp_path / "photos" / f"{index}.png")
    rows = ["0.png,20,female", "1.png,30,male", "2.png,,male", "3.png,50,female", "4.png,70,female"]
    (tmp_path / "photos" / "metadata.csv").write_text("\n".join(["file_name,age,gender", *rows]))
    external_args = DataArguments(dataset=str(tmp_path / "photos"), cache_dir=data_args.cache_dir)
    arguments = EvaluationArguments(
        model=str(run), split="all", external="mine", draws=50, output_dir=str(tmp_path / "out")
    )
    measured = evaluate_model(arguments, external_args)
    assert (measured["pictures"], measured["age"]["mae"]["n"], measured["gender"]["accuracy"]["n"]) == (5, 4, 5)
    assert measured["splits"] == {"all": 5}
    assert measured["age"]["baseline"] | {"mae": None} == {
        "answer": 40.0, "source": "median age of these faces", "mae": None
    }  # fmt: skip
    groups = load_whole_set(external_args)["all"]["group"]
    assert groups[0] == groups[4]
    assert len(set(groups)) == 4
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (written["split"], written["outside"]["mine"]["pictures"]) == ("test", 5)
    assert "mine" not in json.loads((run / "metrics.json").read_text()).get("outside", {})


def test_an_external_test_set_needs_metrics_of_the_weights_themselves(data_args, tmp_path):
    save_tiny_model(tmp_path)
    (tmp_path / "training_run.json").unlink(missing_ok=True)
    (tmp_path / "metrics.json").unlink(missing_ok=True)
    with pytest.raises(EvaluationError, match="evaluate the model's own test split first"):
        evaluate_model(EvaluationArguments(model=str(tmp_path), external="noise"), data_args)
