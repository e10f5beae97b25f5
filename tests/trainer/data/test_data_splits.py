"""Which pictures are kept, with which labels and in which split: with duplicates, folds and manifests."""

from dataclasses import replace

import pytest

from tests.support.faces_on_disk import NEAR_DUPLICATES, as_jpeg, draw_detailed_face, write_archive, write_folder
from tests.support.loaded_faces import FILES, manifest_of, rows_of
from trainer.data.loading import load_faces
from trainer.data.manifest import build_manifest, write_manifest
from trainer.data.sources import read_pictures
from trainer.data.splits import SPLITS


def test_no_duplicate_crosses_splits_and_one_is_kept(arguments, tmp_path):
    files, groups = {}, {}
    for index in range(60):
        picture = draw_detailed_face(index)
        shown = [picture, *(change(picture).convert("RGB") for change in list(NEAR_DUPLICATES.values())[: index % 4])]
        for copy, content in enumerate(shown):
            name = f"{20 + index % 50}_{index % 2}_0_{copy:04d}{index:013d}.jpg"
            files[name] = as_jpeg(content)
            groups[name] = index
    args = arguments(write_folder(tmp_path / "faces", files))
    for seed in range(3):
        manifest = manifest_of(args, seed)
        kept = manifest[manifest["kept"]]
        assert sorted(groups[name] for name in kept.index) == list(range(60))
        assert manifest[~manifest["kept"]]["reason"].str.match("copy: of .*jpg").all()
    by_picture = manifest_of(replace(args, split_by="picture"))
    crossing = by_picture.groupby("group")["split"].nunique()
    assert by_picture["kept"].all()
    assert (crossing > 1).sum() > 5, "a random split must leak, or the comparison shows nothing"
    purged = manifest_of(replace(args, split_by="picture_purged"))
    for split in ("validation", "test"):
        assert (purged["split"] == split).equals(by_picture["split"] == split)
    train, held_out = (set(purged[purged["split"].isin(s)]["group"]) for s in (["train"], ["validation", "test"]))
    assert not train & held_out


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (["30_0_1", "34_0_1"], (32, 0, "Black")),
        (["30_0_1", "33_0_1"], (32, 0, "Black")),  # half a year rounds up
        (["30_0_1", "30_0_2"], (30, 0, "unknown")),
        (["20_1_1", "21_1_1", "30_1_1"], (21, 1, "Black")),
        (["20_1_1", "30_1_1"], (25, 1, "Black")),
        (["20_1_1", "31_1_1"], "contradicting ages: 20 to 31 among near-duplicates"),
        (["20_0_1", "20_1_1"], "contradicting genders: among near-duplicates"),
    ],
)
def test_contradicting_labels_follow_the_rule(labels, kept, arguments, tmp_path):
    copies = {f"{label}_{i:017d}.jpg": next(iter(FILES.values())) for i, label in enumerate(labels)}
    others = dict(list(FILES.items())[1:])
    manifest = manifest_of(arguments(write_folder(tmp_path / "faces", copies | others))).loc[list(copies)]
    if isinstance(kept, str):
        assert manifest["reason"].tolist() == [kept] * len(labels)
    else:
        row = manifest[manifest["kept"]].iloc[0]
        assert (row["age"], row["gender"], row["race"]) == kept
        assert manifest["source_age"].tolist() == [int(label.split("_")[0]) for label in labels]


def test_the_largest_duplicate_is_kept(arguments, tmp_path):
    picture = draw_detailed_face(1, size=160)
    copies = {
        "20_0_0_00000000000000001.jpg": as_jpeg(picture.resize((90, 90))),
        "21_0_0_00000000000000002.jpg": as_jpeg(picture),
        "22_0_0_00000000000000003.jpg": as_jpeg(picture.resize((120, 120))),
    }
    manifest = manifest_of(arguments(write_folder(tmp_path / "faces", copies | FILES)))
    assert manifest.loc[list(copies), "kept"].tolist() == [False, True, False]


def test_folds_test_every_group_once(arguments, folder):
    args = arguments(folder)
    tested = []
    for fold in range(4):
        faces = load_faces(replace(args, folds=4, fold=fold), seed=0)
        tested += faces["test"]["group"]
        assert sum(map(len, faces.values())) == len({group for rows in faces.values() for group in rows["group"]})
        assert min(map(len, faces.values())) > 0
    assert len(tested) == len(set(tested)) == len(FILES)


def test_max_samples_takes_the_same_fraction_of_every_split(arguments, folder):
    args = arguments(folder)
    everything, few = load_faces(args, seed=0), load_faces(replace(args, max_samples=20), seed=0)
    for split in SPLITS:
        assert len(few[split]) == -(-len(everything[split]) * 20 // len(FILES))
        assert few[split]["group"][:] == everything[split]["group"][: len(few[split])]


def test_a_manifest_reproduces_the_splits(arguments, tmp_path):
    folder = write_folder(tmp_path / "faces", FILES | {"broken.jpg": b"text", "18_0_0_20170101.jpg": b""})
    args = arguments(folder, max_unusable_fraction=0.5)
    manifest = build_manifest(read_pictures(args), args, seed=7)
    write_manifest(manifest, tmp_path / "manifest.csv")
    renamed = write_archive(tmp_path / "faces.zip", [(f"a/{name}", content) for name, content in FILES.items()])
    again = arguments(renamed, manifest=str(tmp_path / "manifest.csv"))
    assert {s: sorted(r) for s, r in rows_of(load_faces(again, seed=0)).items()} == {
        s: sorted(r) for s, r in rows_of(load_faces(args, seed=7)).items()
    }
    assert rows_of(load_faces(again, seed=7)) == rows_of(load_faces(args, seed=7))

    fewer = write_folder(tmp_path / "fewer", dict(list(FILES.items())[3:]))
    with pytest.raises(ValueError, match=r"3 of the 60 pictures that .*manifest.csv keeps are not in this source"):
        load_faces(replace(again, dataset=str(fewer)), seed=0)
    more = write_folder(tmp_path / "more", FILES | {"50_0_0_20170101000000000.jpg": as_jpeg(draw_detailed_face(5))})
    reasons = manifest_of(replace(again, dataset=str(more)))["reason"]
    assert reasons["50_0_0_20170101000000000.jpg"] == "not in the manifest"
    assert (reasons == "").sum() == len(FILES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as the manifest.csv"),
        ("a,b\n1,2\n", "is not a manifest: it lacks the columns file_name, pixel_hash"),
    ],
)
def test_a_wrong_manifest(content, message, arguments, folder, tmp_path):
    if content:
        (tmp_path / "manifest.csv").write_text(content)
    args = arguments(folder, manifest=str(tmp_path / "manifest.csv"))
    with pytest.raises(ValueError, match=message):
        load_faces(args, seed=0)
