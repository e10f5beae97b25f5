"""Every source gives the same splits: cleaned, grouped, reproducible, and nothing is lost."""

import io
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDatasetDict, Value
from PIL import Image as PILImage

from tests.support.faces_on_disk import as_jpeg, draw_detailed_face, write_archive, write_folder
from tests.support.loaded_faces import FILES, PREPARED_FEATURES, manifest_of, rows_of
from tests.support.warm_python import HUB_HOME, HUB_PORT, warm_python
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.manifest import build_manifest, write_manifest
from trainer.data.rows import load_row_picture
from trainer.data.sources import read_pictures
from trainer.data.splits import SPLITS


ROOT = Path(__file__).parents[3]
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


SOURCES = {
    "folder": lambda path, files: write_folder(path / "faces", files),
    "nested folders": lambda path, files: write_folder(
        path / "faces", {f"{n[0]}/deep/{n}": c for n, c in files.items()}
    ),
    **{
        suffix: lambda path, files, suffix=suffix: write_archive(path / f"faces{suffix}", files.items())
        for suffix in (".tar", ".tar.gz", ".tgz", ".zip")
    },
    "shuffled archive": lambda path, files: write_archive(
        path / "faces.tgz", sorted(files.items(), key=lambda f: f[1])
    ),
    "other dates": lambda path, files: write_folder(
        path / "faces",
        {f"{'_'.join(n.split('_')[:3])}_{99999 - i:017d}.jpg": c for i, (n, c) in enumerate(files.items())},
    ),
    "metadata.csv": lambda path, files: write_folder(path / "faces", with_metadata(files)),
}


def with_metadata(files: dict[str, bytes]) -> dict[str, bytes]:
    lines, pictures = ["file_name,age,gender,race"], {}
    for index, (name, content) in enumerate(files.items()):
        age, gender, race = name.split("_")[:3]
        pictures[f"{index}.jpg"] = content
        words = ("male", "Female")[int(gender)], ("White", "black", "East Asian", "Indian", "Others")[int(race)]
        lines.append(f"{index}.jpg,{age},{words[0]},{words[1]}")
    return pictures | {"metadata.csv": "\n".join(lines).encode()}


@pytest.fixture(scope="module")
def expected(folder, cache):
    return rows_of(load_faces(DataArguments(dataset=str(folder), cache_dir=cache), seed=0))


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_splits_from_every_source(kind, expected, arguments, tmp_path):
    faces = load_faces(arguments(SOURCES[kind](tmp_path, FILES)), seed=0)
    assert rows_of(faces) == expected
    assert all(0.5 < len(faces[split]) / (len(FILES) * fraction) < 1.5 for split, fraction in FRACTIONS.items())


def test_columns_and_pictures(arguments, folder):
    faces = load_faces(arguments(folder), seed=0)["train"]
    assert faces.features == PREPARED_FEATURES
    row = faces[0]
    assert row["file_name"].startswith(f"{row['age']}_{row['gender']}_")
    expected = PILImage.open(io.BytesIO(FILES[row["file_name"]]))
    np.testing.assert_array_equal(load_row_picture(row), np.asarray(expected))


def test_hub_columns_words_and_class_labels(arguments, monkeypatch):
    """With the column names of datasets on the Hub; test_prepare_data loads from a Hub server."""
    words = Features(picture=Image(), years=Value("float64"), sex=ClassLabel(names=["Mann", "Frau"]))
    rows = [
        {
            "picture": {"bytes": content, "path": None},
            "years": float(name.split("_")[0]),
            "sex": int(name.split("_")[1]),
        }
        for name, content in FILES.items()
    ]
    loaded = DatasetDict(a=Dataset.from_list(rows[:50], features=words), b=Dataset.from_list(rows[50:], features=words))
    monkeypatch.setattr("trainer.data.sources.load_checked", lambda *args, **options: loaded)
    args = arguments(
        "user/gesichter",
        image_column="picture",
        age_column="years",
        gender_column="sex",
        gender_words="Mann=male,Frau=female",
    )
    faces = load_faces(args, seed=0)
    assert sum(map(len, faces.values())) == len(FILES)
    of_one_split = load_faces(replace(args, dataset_splits=["b"]), seed=0)
    assert sum(map(len, of_one_split.values())) == len(FILES) - 50
    with pytest.raises(ValueError, match="user/gesichter has no split test: it has a, b"):
        load_faces(replace(args, dataset_splits=["b", "test"]), seed=0)
    ages = {int(name.split("_")[0]) for name in FILES}
    assert {age for rows in faces.values() for age in rows["age"]} == ages
    with pytest.raises(ValueError, match="no column 'image', only picture, years, sex"):
        load_faces(replace(args, image_column="image"), seed=0)
    with pytest.raises(ValueError, match=r"neither a column of ages .alter. nor one of genders .geschlecht."):
        load_faces(replace(args, age_column="alter", gender_column="geschlecht"), seed=0)


def test_age_ranges_and_missing_labels(arguments, tmp_path):
    """As in FairFace; either label may be missing, but not both."""
    ranges = ["0-2", "3-9", "20-29", "more than 70", "70+", "(25, 32)", "41", "", "nan"]
    files, lines = {}, ["file_name,age_range,gender"]
    for index, (_, content) in enumerate(FILES.items()):
        files[f"{index}.jpg"] = content
        lines.append(f'{index}.jpg,"{ranges[index % len(ranges)]}",{("Male", "Female", "")[index // 20]}')
    files["metadata.csv"] = "\n".join(lines).encode()
    args = arguments(write_folder(tmp_path / "faces", files), max_unusable_fraction=0.2)
    faces = load_faces(args, seed=0)
    assert faces["train"].features["age_low"] == faces["train"].features["age_high"] == Value("int32")
    manifest = manifest_of(args)
    labels = manifest.loc[[f"{i}.jpg" for i in range(9)], ["age", "age_low", "age_high"]].to_numpy().tolist()
    assert labels == [
        [-100, 0, 2],
        [-100, 3, 9],
        [-100, 20, 29],
        [-100, 70, 116],
        [-100, 70, 116],
        [-100, 25, 32],
        [41, 41, 41],
        [-100, -100, -100],
        [-100, -100, -100],
    ]
    assert set(manifest.loc[[f"{i}.jpg" for i in range(40, 60)], "gender"]) == {-100}
    assert manifest["reason"].value_counts().to_dict() == {"": 56, "no label: neither age nor gender is known": 4}


def test_a_second_load_decodes_nothing(arguments, folder, monkeypatch):
    args = arguments(folder)
    first = rows_of(load_faces(args, seed=0))

    def decode(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr("trainer.data.cleaning.open_picture", decode)
    monkeypatch.setattr("trainer.data.duplicates.candidate_pairs", decode)
    assert rows_of(load_faces(args, seed=0)) == first
    assert rows_of(load_faces(args, seed=1)) != first


def test_a_changed_file_is_seen(arguments, tmp_path):
    folder = write_folder(tmp_path / "faces", FILES)
    args = arguments(folder)
    load_faces(args, seed=0)
    name = next(iter(FILES))
    (folder / name).write_bytes(as_jpeg(draw_detailed_face(9, size=48)))
    os.utime(folder / name, ns=(1, 1))
    (folder / "99_1_4_20170101000000000.jpg").write_bytes(as_jpeg(draw_detailed_face(8, size=48)))
    ages = [age for rows in load_faces(args, seed=0).values() for age in rows["age"]]
    assert len(ages) == len(FILES) + 1
    assert 99 in ages


@pytest.mark.parametrize("kind", ["folder", ".tar.gz", ".zip"])
def test_streaming_with_a_manifest_gives_the_same_faces(kind, arguments, tmp_path):
    doubled = FILES | {name.replace("_2017", "_2018"): content for name, content in list(FILES.items())[:3]}
    args = arguments(SOURCES[kind](tmp_path, doubled))
    write_manifest(build_manifest(read_pictures(args), args, seed=0), tmp_path / "manifest.csv")
    faces = load_faces(args, seed=0)
    stream = load_faces(replace(args, streaming=True, manifest=str(tmp_path / "manifest.csv")), seed=0)
    assert isinstance(stream, IterableDatasetDict)
    for split in SPLITS:
        rows = list(stream[split])
        assert sorted(row["group"] for row in rows) == sorted(faces[split]["group"])
        assert all(load_row_picture(row).shape == (48, 48, 3) for row in rows)
    assert list(stream["train"].features) == list(faces["train"].features)


def test_streaming_needs_to_know_the_splits(arguments, folder):
    with pytest.raises(ValueError, match=r"cannot be streamed as it is: .*prepare_data"):
        load_faces(arguments(folder, streaming=True), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "file"}, "split_by must be one of group, picture, picture_purged, got 'file'"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "leave something to train on, got 0.6 and 0.4"),
        ({"test_fraction": 0.0}, "must be above 0"),
        ({"folds": 2}, "Expected 3 folds or more"),
        ({"fold": 2}, "fold needs folds, the number of folds"),
        ({"folds": 3, "validation_fraction": 0.7}, "leave nothing to train on"),
        ({"folds": 5, "manifest": "m.csv"}, "A manifest says which split each picture is in"),
        ({"streaming": True, "align": True}, "Faces of a stream cannot be aligned"),
        ({"folds": 5, "fold": 5}, "a fold from 0 to folds - 1, got 5, 5"),
    ],
)
def test_arguments_that_contradict_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**options)


LOAD_FROM_HUB = """
from trainer.data.loading import DataArguments, load_faces
load_faces(DataArguments(dataset="user/nothing"), seed=0)
"""


@pytest.mark.slow
def test_hub_id_that_does_not_exist(hub, arguments, tmp_path):
    """In its own process: the client reads its endpoint when it is imported."""
    answer = run_python(LOAD_FROM_HUB, hub.env)
    assert "'user/nothing' is neither a file or folder here nor a dataset on the Hub" in answer


@pytest.mark.slow
def test_no_network():
    """Nothing answers where the Hub of other tests was."""
    answer = run_python(LOAD_FROM_HUB, {"HF_ENDPOINT": f"http://127.0.0.1:{HUB_PORT}", "HF_HOME": str(HUB_HOME)})
    assert "DatasetError: The Hub cannot be reached, and 'user/nothing' is not in the cache" in answer


def run_python(code: str, env: dict[str, str]) -> str:
    """The last line of the traceback."""
    done = subprocess.run(
        [warm_python(), "-c", code], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]
