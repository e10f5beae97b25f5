"""Sets as their authors pack them, read with the recipe lines of docs/data.md; and files and labels that are easily lost."""

import logging
import unicodedata
from pathlib import Path

import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from tests.support.faces_on_disk import as_jpeg, draw_detailed_face, face_files, write_archive, write_folder
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.manifest import build_manifest
from trainer.data.preparation import PrepareArguments, prepare_data
from trainer.data.sources import label_rows, read_pictures
from trainer.data.tables import Columns


ROOT = Path(__file__).resolve().parents[3]
PICTURE = as_jpeg(draw_detailed_face(1, size=48))
OTHER = as_jpeg(draw_detailed_face(2, size=48))
MALE, FEMALE, NONE = 0, 1, -100

# name in docs/data.md -> files, and {picture: (age_low, age_high, gender)}
SETS = {
    "UTKFace": (
        {"UTKFace/25_0_2_20170116174525125.jpg.chip.jpg": PICTURE, "UTKFace/30_1_0_20170116174525125.jpg": OTHER},
        {
            "UTKFace/25_0_2_20170116174525125.jpg.chip.jpg": (25, 25, MALE),
            "UTKFace/30_1_0_20170116174525125.jpg": (30, 30, FEMALE),
        },
    ),
    "FairFace": (
        {
            "train/1.jpg": PICTURE,
            "train/2.jpg": OTHER,
            "val/1.jpg": PICTURE,
            "fairface_label_train.csv": b"file,age,gender,race,service_test\n"
            b"train/1.jpg,03-Sep,Male,East Asian,True\ntrain/2.jpg,Oct-19,Female,White,False\n",
            "fairface_label_val.csv": b"file,age,gender,race,service_test\nval/1.jpg,more than 70,Male,Indian,True\n",
        },
        {"train/1.jpg": (3, 9, MALE), "train/2.jpg": (10, 19, FEMALE), "val/1.jpg": (70, 116, MALE)},
    ),
    "Adience": (
        {
            "faces/7@N03/coarse_tilt_aligned_face.1.10.jpg": PICTURE,
            "faces/7@N03/coarse_tilt_aligned_face.2.11.jpg": OTHER,
            "faces/7@N03/coarse_tilt_aligned_face.3.12.jpg": PICTURE,
            "faces/7@N03/coarse_tilt_aligned_face.4.13.jpg": PICTURE,
            "fold_0_data.txt": b"user_id\toriginal_image\tface_id\tage\tgender\tx\n7@N03\t10.jpg\t1\t(25, 32)\tf\t0\n"
            b"7@N03\t11.jpg\t2\t(60, 100)\tu\t0\n",
            "fold_1_data.txt": b"user_id\toriginal_image\tface_id\tage\tgender\tx\n7@N03\t12.jpg\t3\tNone\tm\t0\n"
            b"7@N03\t13.jpg\t4\t60+\t\t0\n",
        },
        {
            "faces/7@N03/coarse_tilt_aligned_face.1.10.jpg": (25, 32, FEMALE),
            "faces/7@N03/coarse_tilt_aligned_face.2.11.jpg": (60, 100, NONE),
            "faces/7@N03/coarse_tilt_aligned_face.3.12.jpg": (NONE, NONE, MALE),
            "faces/7@N03/coarse_tilt_aligned_face.4.13.jpg": (60, 116, NONE),
        },
    ),
    "APPA-REAL": (
        {
            "train/000000.jpg_face.jpg": PICTURE,
            "gt_avg_train.csv": b"file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"
            b"000000.jpg,36,5.05556,0.98400,4\n",
        },
        {"train/000000.jpg_face.jpg": (4, 4, NONE)},
    ),
    "IMDB-WIKI, file names": (
        {"wiki_crop/17/10000217_1981-05-05_2009.jpg": PICTURE},
        {"wiki_crop/17/10000217_1981-05-05_2009.jpg": (28, 28, NONE)},
    ),
    "IMDB-WIKI, a table": (
        {
            "17/a.jpg": PICTURE,
            "17/b.jpg": OTHER,
            "wiki.csv": b"full_path,dob,photo_taken,gender\n17/a.jpg,1981-05-05,2009,1.0\n17/b.jpg,1950,1999,\n",
        },
        {"17/a.jpg": (28, 28, MALE), "17/b.jpg": (48, 49, NONE)},
    ),
    "LFW-like folders": (
        {
            "Ann_Lee/Ann_Lee_0001.jpg": PICTURE,
            "Bob_Ray/Bob_Ray_0001.jpg": OTHER,
            "metadata.csv": b"file_name;age;gender\r\nAnn_Lee/Ann_Lee_0001.jpg;31;f\r\nBob_Ray\\Bob_Ray_0001.jpg;;m\r\n",
        },
        {"Ann_Lee/Ann_Lee_0001.jpg": (31, 31, FEMALE), "Bob_Ray/Bob_Ray_0001.jpg": (NONE, NONE, MALE)},
    ),
}


def documented_lines(name: str) -> dict[str, str]:
    """The recipe lines that docs/data.md shows under the set's name."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split(f"# {name}\n", 1)[1].split("\n\n")[0].split("```")[0])


def labels_of(path: Path, cache: str, **options: str) -> dict[str, tuple[int, int, int]]:
    rows = read_pictures(DataArguments(dataset=str(path), cache_dir=cache, **options)).remove_columns("image")
    return {
        row["file_name"]: row["problem"] or (row["age_low"], row["age_high"], row["gender"])
        for row in rows
        if row["problem"] != "not a picture"
    }


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("suffix", ["", ".tar.gz"])
def test_sets_as_their_authors_pack_them(name, suffix, cache, tmp_path):
    files, expected = SETS[name]
    path = tmp_path / f"set{suffix}"
    path = write_archive(path, files.items()) if suffix else write_folder(path, files)
    lines = documented_lines(name)
    lines.pop("dataset")
    options = {key: value for key, value in lines.items() if key != "align"}
    assert labels_of(path, cache, **options) == expected


def test_what_a_set_needs_is_named(cache, tmp_path):
    files, _ = SETS["FairFace"]
    with pytest.raises(
        DatasetError, match=r"If fairface_label_train\.csv holds the labels, name it with metadata_file\."
    ):
        labels_of(write_folder(tmp_path / "FairFace", files), cache)
    with pytest.raises(DatasetError, match=r"has no column file_name, only file, age, .* with file_column"):
        labels_of(tmp_path / "FairFace", cache, metadata_file="fairface_*.csv")
    with pytest.raises(DatasetError, match="has no column photo, only file, age"):
        labels_of(tmp_path / "FairFace", cache, metadata_file="fairface_*.csv", file_column="{photo}.jpg")
    numbers = {"a.jpg": PICTURE, "metadata.csv": b"file_name,gender\na.jpg,0\n"}
    with pytest.raises(DatasetError, match=r"gender 0 says nothing: add gender_words: 0=male,1=female .as in UTKFace."):
        labels_of(write_folder(tmp_path / "numbers", numbers), cache)
    with pytest.raises(DatasetError, match="give birth_column and photo_column, or neither"):
        DataArguments(birth_column="dob")


def test_folders_that_are_links_are_followed(cache, tmp_path):
    elsewhere = write_folder(tmp_path / "elsewhere", {"30_1_0_20170116.jpg": OTHER})
    folder = write_folder(tmp_path / "faces", {"25_0_2_20170116.jpg": PICTURE})
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(folder, target_is_directory=True)  # a circle
    found = labels_of(folder, cache)
    assert found == {"25_0_2_20170116.jpg": (25, 25, MALE), "linked/30_1_0_20170116.jpg": (30, 30, FEMALE)}
    (elsewhere / "31_1_0_20170116.jpg").write_bytes(OTHER)  # is seen behind the link
    assert len(labels_of(folder, cache)) == 3


@pytest.mark.parametrize("suffix", ["", ".tar", ".zip"])
def test_names_of_other_systems(suffix, cache, tmp_path):
    """Backslashes in a table and in an archive; a table in another Unicode normal form than the files; ./ and ../."""
    composed, decomposed = (unicodedata.normalize(form, "Zoë.jpg") for form in ("NFC", "NFD"))
    table = f"file_name,age\nfaces\\a.jpg,20\nfaces/{composed},30\n./faces/../faces/b.jpg,40\n"
    files = {f"faces/{name}": PICTURE for name in ("a.jpg", decomposed, "b.jpg")} | {"metadata.csv": table.encode()}
    if suffix:
        members = [(name.replace("/", "\\"), content) for name, content in files.items()]
        path = write_archive(tmp_path / f"set{suffix}", [("faces\\", b""), *members] if suffix == ".zip" else members)
    else:
        path = write_folder(tmp_path / "set", files)
    ages = {"faces/a.jpg": 20, f"faces/{decomposed}": 30, "faces/b.jpg": 40}
    assert labels_of(path, cache) == {name: (age, age, NONE) for name, age in ages.items()}


def test_column_lists_fall_back_by_value(cache, tmp_path):
    table = (
        "file_name,age,age_range,gender,sex,race,ethnicity\n"
        "a.jpg,25,20-29,m,,White,\n"
        "b.jpg,,20–29,,f,,Black\n"
        "c.jpg,nan,30-39,u,f,unknown,Asian\n"
    )
    files = {f"{name}.jpg": PICTURE for name in "abc"} | {"metadata.csv": table.encode()}
    args = DataArguments(
        dataset=str(write_folder(tmp_path / "set", files)), cache_dir=cache, gender_column="gender,sex"
    )
    rows = read_pictures(args).remove_columns("image").to_pandas().set_index("file_name")
    assert rows[["age_low", "age_high", "gender", "race"]].to_numpy().tolist() == [
        [25, 25, MALE, "White"],
        [20, 29, FEMALE, "Black"],
        [30, 39, FEMALE, "Asian"],
    ]


def test_zeros_of_a_table_are_values():
    """An age of 0 and a gender of 0, as numbers."""
    rows = Dataset.from_dict({"image": [PICTURE], "age": [0], "gender": [0]})
    labels = label_rows(rows, Columns(gender_words="0=male,1=female"), "the set")[0]
    assert (labels["age"], labels["gender"]) == (0, MALE)


@pytest.mark.parametrize(("names", "expected"), [(["male", "female"], MALE), (["Female", "Male"], FEMALE)])
def test_the_names_of_classes_say_which_gender_is_0(names, expected):
    features = Features(image=Value("binary"), gender=ClassLabel(names=names))
    rows = Dataset.from_dict({"image": [PICTURE], "gender": [0]}, features=features)
    assert label_rows(rows, Columns(), "the set")[0]["gender"] == expected


@pytest.mark.parametrize(
    ("feature", "value", "message"),
    [
        (List(Image()), [{"bytes": PICTURE, "path": None}], "The column 'image' of the set holds lists, expected one"),
        (Value("int64"), 1, r"The column 'image' of the set holds Value\('int64'\), expected pictures\."),
    ],
)
def test_columns_that_do_not_hold_pictures(feature, value, message):
    rows = Dataset.from_dict({"image": [value], "age": [20]}, features=Features(image=feature, age=Value("int32")))
    with pytest.raises(DatasetError, match=message):
        label_rows(rows, Columns(), "the set")


def test_what_is_dropped_or_half_used_is_logged_and_on_the_data_card(cache, tmp_path, caplog):
    files, lines = {}, ["file_name,age,gender"]
    for index, (_, content) in enumerate(face_files(40).items()):
        files[f"{index}.jpg"] = content
        lines.append(f"{index}.jpg,{'' if index < 3 else 20 + index},{'u' if 3 <= index < 8 else 'mf'[index % 2]}")
    files |= {"metadata.csv": "\n".join([*lines, "gone.jpg,20,m"]).encode(), ".DS_Store": b"x", "notes.txt": b"x"}
    args = DataArguments(dataset=str(write_folder(tmp_path / "faces", files)), cache_dir=cache)
    with caplog.at_level(logging.WARNING):
        manifest = build_manifest(read_pictures(args), args, seed=0)
    assert manifest["kept"].sum() == 40
    assert caplog.messages == [
        f"{args.dataset}: 43 files, 40 kept. Dropped: 1 hidden file, 1 not a picture, 1 no file. "
        "Half used: 3 with no age, 5 with no gender."
    ]
    prepare_data(PrepareArguments(output_dir=str(tmp_path / "prepared")), args)
    card = (tmp_path / "prepared" / "README.md").read_text()
    assert "Of the kept pictures, 3 have no age and 5 no gender: each teaches one head only." in card
    assert "| no file | 1 |" in card
