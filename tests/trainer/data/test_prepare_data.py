"""The prepared set: what is written, and that it loads like its source."""

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import IterableDatasetDict
from PIL import Image
from yaml import safe_load

from scripts.benchmarks.check_splits import find_leaks
from tests.support.faces_on_disk import (
    NEAR_DUPLICATES,
    as_jpeg,
    draw_detailed_face,
    face_files,
    utkface_like,
    write_folder,
)
from tests.support.warm_python import warm_python
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.manifest import read_manifest
from trainer.data.preparation import PrepareArguments, prepare_data
from trainer.data.report import describe_data
from trainer.data.rows import load_row_picture
from trainer.data.splits import SPLITS


ROOT = Path(__file__).resolve().parents[3]


def test_the_prepared_set_is_its_source_cleaned(raw, prepared):
    expected = load_faces(raw, seed=0)
    faces = load_faces(replace(raw, dataset=str(prepared)), seed=5)
    for split in SPLITS:
        assert faces[split].features == expected[split].features
        assert faces[split].remove_columns("image")[:] == expected[split].remove_columns("image")[:]
        for ours, theirs in zip(faces[split], expected[split], strict=True):
            np.testing.assert_array_equal(load_row_picture(ours), load_row_picture(theirs))


def test_a_clean_set_is_kept_whole_and_names_that_others_chose_do_nothing(tmp_path):
    """A folder's name makes no link or HTML on the card and no second command in its recipe; a file's name, no formula."""
    folder = tmp_path / "a`|<b>[x](http:x)\n# ; touch pwned #"
    files = face_files(30)
    table = "file_name,age\n" + "\n".join(f'"={name}",{name.split("_")[0]}' for name in files)
    content = {f"={name}": picture for name, picture in files.items()} | {"metadata.csv": table.encode()}
    write_folder(folder, content)
    report = prepare_data(PrepareArguments(output_dir=str(tmp_path / "out")), DataArguments(dataset=str(folder)))
    assert (report["kept"], report["reasons"]) == (30, {})
    card = (tmp_path / "out/README.md").read_text().split("---\n")[2]
    assert "# a\\`\\|\\<b\\>\\[x\\]\\(http:x\\) \\# ; touch pwned \\#: cleaned" in card
    [command] = [line for line in card.splitlines() if line.startswith("python -m scripts.prepare_data")]
    assert shlex.split(command)[3:5] == ["--dataset", "a`|<b>[x](http:x) # ; touch pwned #"]
    lines = (tmp_path / "out/manifest.csv").read_text(encoding="utf-8-sig").splitlines()
    assert all(line.startswith("'=") for line in lines[1:])
    assert sorted(read_manifest(str(tmp_path / "out/manifest.csv"))["file_name"]) == sorted(
        {*content} - {"metadata.csv"}
    )


def test_files_are_what_the_hub_expects(prepared):
    names = sorted(path.relative_to(prepared).as_posix() for path in prepared.rglob("*") if path.is_file())
    data = [name for name in names if name.startswith("data/")]
    count = sum(name.startswith("data/train-") for name in data)
    assert f"data/train-00000-of-{count:05d}.parquet" in data
    assert sorted(set(names) - set(data)) == [
        "README.md",
        "figures/ages.png",
        "figures/label_noise.png",
        "figures/races_by_age.png",
        "figures/removed.png",
        "manifest.csv",
        "report.json",
    ]
    image = pd.read_parquet(prepared / data[0])["image"][0]
    assert image["bytes"].startswith(b"\xff\xd8"), "pictures are embedded as they were"
    metadata = safe_load((prepared / "README.md").read_text().split("---")[1])
    assert [file["path"] for file in metadata["configs"][0]["data_files"]] == [f"data/{s}-*.parquet" for s in SPLITS]
    for path in prepared.glob("figures/*.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 5


def test_every_file_is_accounted_for(prepared):
    manifest = read_manifest(str(prepared / "manifest.csv"))
    report = json.loads((prepared / "report.json").read_text())
    assert sorted(manifest["file_name"]) == sorted(utkface_like())
    assert report["files"] == len(manifest) == report["kept"] + report["dropped"]
    assert report["reasons"] == {
        "contradicting ages": 12,  # 12 to 22 years apart: six pairs
        "contradicting genders": 2,
        "copy": 5,
        "name not understood": 1,
        "not a picture": 1,
        "undecodable": 1,
    }
    assert sum(report["splits"].values()) == report["kept"] == 65
    assert report["copy_groups"] == 12
    assert sum(cell["total"] for cell in report["cells"]) == 65
    assert report == json.loads(json.dumps(describe_data(manifest)))


def test_the_card_agrees_with_the_report(prepared):
    card = (prepared / "README.md").read_text()
    for text in (
        "87 files: 65 kept, 22 dropped.",
        "| contradicting ages | 12 |",
        "12 groups with 24 pictures: 12 of 2.",
        "non-commercial",
        "python -m scripts.prepare_data --dataset UTKFace.tar.gz --seed 0",
        "the ages of two duplicates differ by 11.00 [",
    ):
        assert text.lower() in card.lower(), text
    assert "{{" not in card, "a part of the template was not rendered"
    assert str(prepared.parent) not in card


def test_a_prepared_set_streams(raw, prepared):
    args = replace(raw, dataset=str(prepared), streaming=True)
    stream, faces = load_faces(args, seed=0), load_faces(replace(args, streaming=False), seed=0)
    assert isinstance(stream, IterableDatasetDict)
    assert [row["group"] for row in stream["train"]] == faces["train"]["group"][:]
    assert len(list(load_faces(replace(args, max_samples=20), seed=0)["train"])) == 16
    assert {row["group"] for row in stream["train"].shuffle(seed=1, buffer_size=10)} == set(faces["train"]["group"])


def test_a_prepared_set_in_folds(raw, prepared):
    args = replace(raw, folds=5)
    for fold in (0, 3):
        ours = load_faces(replace(args, dataset=str(prepared), fold=fold), seed=2)
        theirs = load_faces(replace(args, fold=fold), seed=2)
        assert {split: ours[split]["group"][:] for split in SPLITS} == {s: theirs[s]["group"][:] for s in SPLITS}


def test_max_samples_of_a_prepared_set(raw, prepared):
    few, everything = (
        load_faces(replace(raw, dataset=d, max_samples=13), seed=0) for d in (str(prepared), raw.dataset)
    )
    assert {split: few[split]["group"][:] for split in SPLITS} == {s: everything[s]["group"][:] for s in SPLITS}


def test_unaligned_crops_are_aligned_before_they_are_written(raw, prepared, tmp_path):
    folder = tmp_path / "aligned"
    aligned = replace(raw, align=True)
    prepare_data(PrepareArguments(output_dir=str(folder)), aligned)
    assert (folder / "manifest.csv").read_text() == (prepared / "manifest.csv").read_text()
    written = load_faces(DataArguments(dataset=str(folder), cache_dir=raw.cache_dir), seed=0)
    assert {load_row_picture(row).shape for row in written["test"]} == {(160, 160, 3)}
    card = (folder / "README.md").read_text()
    assert "aligned to the training template" in card
    assert "--align True" in card


def test_a_manifest_reproduces_the_set(raw, prepared, tmp_path):
    again = replace(raw, manifest=str(prepared / "manifest.csv"))
    prepare_data(PrepareArguments(output_dir=str(tmp_path / "again"), shard_size=20, seed=0), again)
    assert (tmp_path / "again/manifest.csv").read_bytes() == (prepared / "manifest.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"manifest": "manifest.csv"}, "is prepared: its pictures are chosen and split already"),
        ({"split_by": "picture"}, "is prepared: its pictures are chosen and split already"),
        ({"streaming": True, "folds": 5}, "Folds need all labels at once"),
    ],
)
def test_arguments_that_a_prepared_set_refuses(options, message, raw, prepared):
    with pytest.raises(ValueError, match=message):
        load_faces(replace(raw, dataset=str(prepared), **options), seed=0)


@pytest.mark.parametrize(
    ("options", "message"), [({"max_samples": 3}, "for training"), ({"streaming": True}, "for training")]
)
def test_a_set_is_prepared_as_a_whole(options, message, raw, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare_data(PrepareArguments(output_dir=str(tmp_path / "out")), replace(raw, **options))


def test_nothing_is_overwritten(raw, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty"):
        prepare_data(PrepareArguments(output_dir=str(tmp_path)), raw)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_run_leaves_no_set(raw, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("trainer.data.preparation.draw_data_figures", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(PrepareArguments(output_dir=str(tmp_path / "faces")), raw)
    assert not (tmp_path / "faces").exists()
    prepare_data(PrepareArguments(output_dir=str(tmp_path / "faces")), raw)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_leaks_are_found_by_the_check(raw, tmp_path):
    files = face_files(60) | {
        f"30_0_0_{copy}{index:016d}.jpg": as_jpeg(picture.convert("RGB"))
        for index in range(12)
        for copy, picture in enumerate(
            [draw_detailed_face(index, 60), NEAR_DUPLICATES["mirrored"](draw_detailed_face(index, 60))]
        )
    }
    args = replace(raw, dataset=str(write_folder(tmp_path / "faces", files)))
    assert list(find_leaks(load_faces(args, seed=0))) == []
    leaks = list(find_leaks(load_faces(replace(args, split_by="picture"), seed=0)))
    assert leaks
    assert all(leak.flipped and leak.first[-12:] == leak.second[-12:] for leak in leaks)
    by_picture = load_faces(replace(args, split_by="picture"), seed=0)
    groups = {split: set(by_picture[split]["group"]) for split in SPLITS}
    crossing = (
        (groups["train"] & groups["test"])
        | (groups["train"] & groups["validation"])
        | (groups["test"] & groups["validation"])
    )
    assert len(leaks) == len(crossing)


@pytest.mark.slow
def test_help_explains_itself():
    done = subprocess.run(
        [warm_python(), "-m", "scripts.prepare_data", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m scripts.prepare_data ")
    assert "Clean, group and split a set of labelled faces once" in done.stdout
    for option in ("--output-dir", "--push-to-hub", "--manifest", "--folds", "--max-age-spread", "parquet"):
        assert option in done.stdout
