"""Bad input is a clear error or a counted drop; nothing is lost, and nothing is written where it should not be."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.support.bad_faces import FILES, OTHER, PICTURE, error_of
from tests.support.faces_on_disk import draw_detailed_face, write_archive, write_folder
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.splits import SPLITS


def test_undecodable_files_are_listed_and_dropped(manifest_of, tmp_path):
    bad = {
        "20_0_0_20170101.jpg": b"",
        "21_0_0_20170101.jpg": PICTURE[: len(PICTURE) // 2],
        "22_0_0_20170101.jpg": b"this is text, whatever its name says",
        "23_0_0_20170101.png": b"\x89PNG\r\n\x1a\n" + b"garbage" * 9,
    }
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "24_0_0_20170101.jpg").symlink_to("nowhere.jpg")
    reasons = manifest_of(write_folder(tmp_path / "faces", FILES | bad | {"notes.txt": b"hello"}))["reason"]
    assert reasons["20_0_0_20170101.jpg"] == "empty file"
    assert "truncated" in reasons["21_0_0_20170101.jpg"]
    assert "none of these, whatever its name says" in reasons["22_0_0_20170101.jpg"]
    assert reasons["23_0_0_20170101.png"].startswith("undecodable: ")
    assert reasons["24_0_0_20170101.jpg"] == "unreadable: broken link or special file"
    assert reasons["notes.txt"] == "not a picture"
    assert (reasons == "").sum() == len(FILES)


def test_splits_are_chosen_on_the_hub_only(cache, tmp_path):
    message = error_of(tmp_path, cache, dataset_splits=["train"])
    assert message == f"dataset_splits is for datasets on the Hub, and {tmp_path} is a local path: leave it out."


@pytest.mark.parametrize("name", ["/nowhere/faces", "../nowhere", "~/nowhere", "faces.tar.gz", "faces.zip"])
def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(name, cache):
    assert error_of(Path(name), cache).startswith(
        f"There is no file or folder {Path(name)}: expected a folder, a .tar.gz"
    )


def test_a_damaged_prepared_set(cache, tmp_path):
    for split in SPLITS:
        write_folder(tmp_path, {f"data/{split}-00000-of-00001.parquet": b"not parquet"})
    assert error_of(tmp_path, cache).startswith(f"{tmp_path} cannot be loaded as a dataset: ")


def test_too_many_bad_files_are_an_error(cache, tmp_path):
    bad = {f"{20 + i}_0_0_20170101.jpg": b"text" for i in range(5)}
    folder = write_folder(tmp_path / "faces", FILES | bad | {f"{i}.txt": b"not counted" for i in range(50)})
    message = error_of(folder, cache)
    assert "5 of the 45 pictures" in message
    assert (
        "the fraction of 0.1 that max_unusable_fraction allows: 5 undecodable. First: 20_0_0_20170101.jpg: " in message
    )
    load_faces(DataArguments(dataset=str(folder), cache_dir=cache, max_unusable_fraction=0.2), seed=0)


def test_a_picture_too_large_to_decode(manifest_of, tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    manifest = manifest_of(write_folder(tmp_path / "faces", FILES | {"30_0_0_20170101.png": buffer.getvalue()}))
    assert "Expected at most 50,000,000 pixels" in manifest.at["30_0_0_20170101.png", "reason"]


def test_kinds_of_pictures(manifest_of, tmp_path):
    """Grey, 16-bit, palette, transparent, CMYK, HEIF and animated pictures are all read."""
    kinds = {
        "L": "jpg",
        "I;16": "png",
        "P": "gif",
        "RGBA": "png",
        "CMYK": "jpg",
        "LA": "png",
        "1": "tiff",
        "RGB": "heic",
    }
    files = {}
    for index, (mode, suffix) in enumerate(kinds.items()):
        buffer = io.BytesIO()
        picture = draw_detailed_face(50 + index, size=48)
        picture = picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
        picture.save(buffer, {"jpg": "JPEG", "tiff": "TIFF", "heic": "HEIF"}.get(suffix, suffix))
        files[f"{30 + index}_0_0_20170101.{suffix}"] = buffer.getvalue()
    # a UTKFace name ends in .jpg, .png or .webp: other formats need a table
    table = "file_name,age\n" + "\n".join(f"{name},30" for name in files)
    manifest = manifest_of(
        write_folder(tmp_path / "faces", files | {"metadata.csv": table.encode()}), max_age_spread=99
    )
    assert manifest["kept"].tolist() == [True] * len(files)


@pytest.mark.parametrize("suffix", [".tar", ".tgz", ".zip"])
def test_equal_names_with_different_content_are_two_pictures(suffix, manifest_of, tmp_path):
    name = "25_0_0_20170101.jpg"
    members = [*FILES.items(), (name, PICTURE), (name, OTHER), (f"again/{name}", PICTURE)]
    path = tmp_path / f"faces{suffix}"
    if suffix == ".zip":
        with pytest.warns(UserWarning, match="Duplicate name"):
            write_archive(path, members)
    else:
        write_archive(path, members)
    manifest = manifest_of(path)
    assert manifest.loc[[name], "kept"].sum() + manifest.loc[[f"again/{name}"], "kept"].sum() == 2
    assert manifest.loc[[name], "pixel_hash"].nunique() == 2
    assert manifest["kept"].sum() == len(FILES) + 2


def test_one_content_under_many_names_is_one_picture(manifest_of, tmp_path):
    copies = {f"30_0_0_{i:017d}.jpg": PICTURE for i in range(40)}
    manifest = manifest_of(write_folder(tmp_path / "faces", FILES | copies))
    rows = manifest.loc[list(copies)]
    assert rows["kept"].sum() == 1
    assert rows["group"].nunique() == 1
    assert (rows["reason"] == f"copy: of {rows.index[rows['kept']][0]}").sum() == 39


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {},
            "(JPEG, PNG, WEBP, GIF, BMP, DIB, TIFF, AVIF, JPEG2000, PPM, HEIF), only 0 other files",
        ),
        (
            {"a.txt": b"a", "b.csv": b"b"},
            "HEIF), only 2 other files",
        ),
        (
            {"holiday.jpg": PICTURE, "party.jpg": OTHER},
            "None of the 2 pictures in {path} has a label: expected a name such as 25_1_2_20170116.jpg "
            "(age_gender_race_date). First: holiday.jpg: name not understood",
        ),
        (
            {"a.jpg": PICTURE, "metadata.csv": b"file_name,age\nb.jpg,20\n"},
            "None of the 1 pictures in {path} has a label: expected a row in metadata.csv. First: a.jpg: no metadata row",
        ),
        (
            {"a.jpg": PICTURE, "metadata.csv": b"name,age\na.jpg,20\n"},
            "metadata.csv has no column file_name, only name, age",
        ),
        (
            {"a.jpg": PICTURE, "metadata.csv": b"file_name,years\na.jpg,20\n"},
            "metadata.csv has neither a column of ages (age,age_range) nor one of genders (gender), only file_name, years",
        ),
        ({"a.jpg": PICTURE, "metadata.csv": b'file_name,age\n"a.jpg,20\n'}, "metadata.csv is not a table"),
        ({"20_0_0_20170101.jpg": PICTURE}, "1 usable faces in {path} are too few"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".tar"])
def test_nothing_to_train_on(files, message, suffix, cache, tmp_path):
    path = tmp_path / f"faces{suffix}"
    path = write_archive(path, files.items()) if suffix else write_folder(path, files)
    path.mkdir(exist_ok=True) if not suffix else None
    assert message.format(path=path) in error_of(path, cache)


@pytest.mark.parametrize("suffix", ["", ".tar.gz", ".zip"])
def test_metadata_and_files_that_do_not_match(suffix, manifest_of, tmp_path):
    lines = ["file_name,age,gender"]
    lines += [f"{name},{name.split('_')[0]},{('m', 'f')[int(name.split('_')[1])]}" for name in FILES]
    lines += ["gone.jpg,20,m", "sub/twice.jpg,30,m", "sub/twice.jpg,31,m", "wrong.jpg,200,f", "robot.jpg,30,robot"]
    files = {f"set/{name}": content for name, content in FILES.items()} | {
        f"set/{name}": PICTURE for name in ("unlisted.jpg", "sub/twice.jpg", "wrong.jpg", "robot.jpg")
    }
    files["set/metadata.csv"] = "\n".join(lines).encode()
    path = tmp_path / f"faces{suffix}"
    manifest = manifest_of(write_archive(path, files.items()) if suffix else write_folder(path, files))
    assert manifest["reason"][~manifest["kept"]].to_dict() == {
        "set/gone.jpg": "no file: only a metadata row",
        "set/sub/twice.jpg": "ambiguous metadata: 2 rows with different labels",
        "set/unlisted.jpg": "no metadata row",
        "set/wrong.jpg": "age out of range: 200, expected 0 to 116",
        "set/robot.jpg": "unknown gender: 'robot', expected one of male, m, man, female, f, woman",
    }
    assert manifest["kept"].sum() == len(FILES)


def test_two_files_of_one_name_do_not_share_a_row(manifest_of, tmp_path):
    table = "file_name,age\n" + "\n".join(f"{name},{name.split('_')[0]}" for name in FILES) + "\na.jpg,20\n"
    members = [*FILES.items(), ("a.jpg", PICTURE), ("a.jpg", OTHER), ("metadata.csv", table.encode())]
    reasons = manifest_of(write_archive(tmp_path / "faces.tar", members)).loc[["a.jpg"], "reason"]
    assert reasons.tolist() == ["ambiguous metadata: several files of this name share a row"] * 2


def test_a_name_that_is_not_utf8(manifest_of, tmp_path):
    folder = write_folder(tmp_path / "faces", FILES)
    os.rename(folder / next(iter(FILES)), os.fsencode(folder) + b"/20_0_0_2017\xff.jpg")
    os.rename(folder / list(FILES)[1], os.fsencode(folder) + b"/20_0_0_20170101.jp\xff")
    (tmp_path / os.fsdecode(b"f\xff")).mkdir()
    reasons = manifest_of(folder)["reason"]
    assert reasons["20_0_0_2017\\udcff.jpg"].startswith("name not understood")
    assert reasons["20_0_0_20170101.jp\\udcff"].startswith("name not understood")
    moved = folder.rename(tmp_path / os.fsdecode(b"f\xff") / "faces")
    assert manifest_of(moved)["kept"].sum() == len(FILES) - 2
