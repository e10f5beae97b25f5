"""Several data sets in one recipe: exact ages with ranges, aligned faces with unaligned crops."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.made_up_faces import draw_face, write_utkface_folder
from tests.support.warm_python import warm_python
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.mixture import MixtureArguments, decode_sets, load_sets, training_faces
from trainer.data.rows import CROP_SIDE, load_row_picture
from trainer.data.transforms import collate_faces
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.evaluation.held_out import EvaluationError
from trainer.recipe import RecipeError
from trainer.train import main


ROOT = Path(__file__).parents[3]


def write_ranged_folder(folder: Path, count: int) -> Path:
    """Drawings labelled with age ranges in a metadata.csv, like FairFace."""
    folder.mkdir()
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "age_range", "gender"])
        for index in range(count):
            decade, gender = index % 7, index // 7 % 2
            draw_face(10 * decade + 5, gender, seed=900_000 + index).save(folder / f"{index}.png")
            table.writerow([f"{index}.png", f"{10 * decade}-{10 * decade + 9}", ["Male", "Female"][gender]])
    return folder


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> Path:
    return write_utkface_folder(tmp_path_factory.mktemp("exact") / "faces", count=120)


@pytest.fixture(scope="module")
def ranged(tmp_path_factory) -> Path:
    return write_ranged_folder(tmp_path_factory.mktemp("ranged") / "faces", count=80)


def test_an_epoch_repeats_each_set_as_often_as_told(exact, ranged):
    mixture = MixtureArguments(also_train_on=[json.dumps({"dataset": str(ranged), "repeat": 2})], repeat=3)
    faces, other = load_sets(DataArguments(dataset=str(exact)), mixture, seed=0)
    mixed_faces = decode_sets([faces, other], mixture, image_size=32, train_size=32, num_proc=None)
    train, mixed = faces["train"], mixed_faces.train
    assert len(mixed) == 3 * len(train) + 2 * len(other["train"]) == sum(map(len, mixed_faces.train_rows))
    assert len(mixed_faces.validation[0]) == len(faces["validation"])

    labels = collate_faces([mixed[0], mixed[len(mixed) - 1]])["age_labels"].tolist()
    assert labels[0][0] == labels[0][1] == train["age"][0]
    assert labels[1][1] - labels[1][0] == 9


def test_a_recipe_trains_on_several_sets(exact, ranged, tmp_path):
    recipe = tmp_path / "both.yaml"
    smoke = (ROOT / "trainer/recipes/smoke.yaml").read_text()
    recipe.write_text(f"{smoke}\nalso_train_on:\n  - dataset: {ranged}\n    repeat: 2\ntrain_resolutions: [32, 40]\n")
    output_dir = tmp_path / "run"
    main([str(recipe), "--dataset", str(exact), "--output_dir", str(output_dir), "--report", "false"])
    record = json.loads((output_dir / "training_run.json").read_text())
    assert record["arguments"]["also_train_on"] == [{"dataset": "faces", "repeat": 2}]
    [other] = record["data"]["also_trained_on"]
    pictures = record["data"]["splits"]["train"] + 2 * other["splits"]["train"]
    assert record["best_step"] <= 2 * -(-pictures // 16)
    steps = max(entry["step"] for entry in record["log_history"])
    assert steps == 2 * -(-pictures // 16), "two epochs over both sets in batches of 16"
    assert str(ranged) not in json.dumps(record["arguments"])
    held_out = [record["data"]["splits"]["validation"], other["splits"]["validation"]]
    assert [one["faces"] for one in record["calibration"]["by_set"]] == held_out
    assert record["calibration"]["faces"] == sum(held_out)

    evaluate_model(EvaluationArguments(model=str(output_dir), draws=20), DataArguments(dataset=str(exact)))
    on_ranged = DataArguments(dataset=str(ranged))
    for split in ("all", "train"):
        with pytest.raises(EvaluationError, match="trained on faces too"):
            evaluate_model(EvaluationArguments(model=str(output_dir), split=split, external="ranged"), on_ranged)
    metrics = evaluate_model(EvaluationArguments(model=str(output_dir), external="ranged", draws=20), on_ranged)
    assert metrics["pictures"] == other["splits"]["test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FairFace", "expected a mapping"),
        ('{"align": true}', "expected a mapping"),
        ('{"dataset": "x", "allign": true}', "also_train_on: unknown key 'allign'. Did you mean 'align'"),
        ('{"dataset": "x", "repeat": "often"}', "also_train_on: repeat: invalid int value: 'often'"),
        ('{"dataset": "x", "repeat": 0}', "at least once"),
        ('{"dataset": "x", "validation_fraction": 2}', "validation_fraction"),
    ],
)
def test_a_set_that_is_not_understood(text, message):
    with pytest.raises(ValueError, match=message):
        MixtureArguments(also_train_on=[text])


def test_a_stream_cannot_be_mixed(exact, ranged):
    streamed = {"dataset": str(ranged), "streaming": True}
    mixture = MixtureArguments(also_train_on=[json.dumps(streamed)])
    with pytest.raises(RecipeError, match="leave out streaming"):
        load_sets(DataArguments(dataset=str(exact)), mixture, seed=0)
    mixture = MixtureArguments(also_train_on=[json.dumps({"dataset": str(ranged)})])
    with pytest.raises(RecipeError, match="leave out streaming"):
        load_sets(DataArguments(dataset=str(exact), streaming=True), mixture, seed=0)


def test_duplicates_of_what_another_set_holds_out_are_left_out_of_training(exact, tmp_path):
    faces = load_faces(DataArguments(dataset=str(exact)), seed=0)
    folder = write_utkface_folder(tmp_path / "others", count=60, seed=5)
    for index, row in enumerate(row for split in faces.values() for row in split):
        Image.fromarray(load_row_picture(row)).save(folder / f"30_0_0_2018{index:013d}.jpg", quality=60)
    others = load_faces(DataArguments(dataset=str(folder)), seed=0)

    rows = [name for split in faces.values() for name in split["file_name"]]
    copies = {name: f"30_0_0_2018{index:013d}.jpg" for index, name in enumerate(rows)}
    originals = {copy: name for name, copy in copies.items()}
    cleaned = training_faces([faces, others])
    for splits, held_out, copy_of, clean in (
        (faces, others, copies, cleaned[0]),
        (others, faces, originals, cleaned[1]),
    ):
        held = {*held_out["validation"]["file_name"], *held_out["test"]["file_name"]}
        leaks = {name for name in splits["train"]["file_name"] if copy_of.get(name) in held}
        assert leaks
        assert set(clean["file_name"]) == set(splits["train"]["file_name"]) - leaks


@pytest.mark.parametrize("num_proc", [None, 2])
def test_unaligned_crops_are_aligned_and_others_kept_whole(tmp_path, num_proc):
    folder = tmp_path / "loose"
    folder.mkdir()
    astronaut = Image.open(ROOT / "examples/astronaut.jpg").convert("RGB")
    for index in range(12):  # the same face at another place each time, in the corner of something else
        canvas = Image.fromarray(np.random.default_rng(index).integers(0, 255, (400, 400, 3), dtype=np.uint8))
        canvas.paste(astronaut.crop((130, 20, 330, 220)), (10 * index, 200 - 15 * index))
        canvas.save(folder / f"{20 + index}_1_0_20170101{index:09d}.jpg")
    for index in range(12):
        draw_face(40 + index, 0, seed=index).save(folder / f"{40 + index}_0_0_20170102{index:09d}.jpg")
    fractions = {"validation_fraction": 0.3, "test_fraction": 0.3, "max_age_spread": 100}
    faces = load_faces(DataArguments(dataset=str(folder), align=True, num_proc=num_proc, **fractions), seed=0)
    rows = [row for split in faces.values() for row in split]
    assert {load_row_picture(row).shape for row in rows} == {(CROP_SIDE, CROP_SIDE, 3)}
    women = np.stack([load_row_picture(row).astype(float) for row in rows if row["gender"] == 1])
    assert np.abs(women - women.mean(axis=0)).mean() < 12, "the crops of one face are alike, wherever it was"


def test_processes_that_decode_do_not_wait_for_their_parents_threads(tmp_path):
    """As in a run that has just searched for duplicates with OpenCV's threads."""
    write_utkface_folder(tmp_path / "faces", count=40)
    script = f"""
import cv2, numpy as np
from trainer.data.loading import DataArguments, load_faces
from trainer.data.transforms import decode_faces
cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)
faces = load_faces(DataArguments(dataset={str(tmp_path / "faces")!r}, align=True, num_proc=2), seed=0)
print(len(decode_faces(faces, 32, 32, num_proc=2)["train"]), cv2.getNumThreads())
"""
    command = [warm_python(), "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["32", "4"]
