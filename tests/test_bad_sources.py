"""Sources with something wrong: one bad file is counted and dropped, a source of nothing but bad files is refused."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.made_up_faces import draw_face, write_utkface_folder
from trainer.data import DataArguments, load_faces, read_pictures
from trainer.manifest import build_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_utkface_folder(tmp_path / "faces", count=60, size=48)


def jpeg(seed: int = 1000) -> bytes:
    buffer = io.BytesIO()
    draw_face(30, 0, seed).save(buffer, "JPEG")
    return buffer.getvalue()


def reasons(source: Path, tmp_path: Path) -> dict[str, str]:
    """Why each file that was not kept was dropped, by its name; and nothing else is lost."""
    args = DataArguments(dataset=str(source), cache_dir=str(tmp_path / "cache"))
    manifest = build_manifest(read_pictures(args), args, seed=0)
    faces = load_faces(args, seed=0)
    assert sum(map(len, faces.values())) == manifest["kept"].sum()
    dropped = manifest[~manifest["kept"]]
    return dict(zip(dropped["file_name"], dropped["reason"], strict=True))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("25_0_1_20170109.jpg", jpeg()[:400], "undecodable"),  # truncated
        ("25_0_1_20170109.jpg", b"This is a text.", "undecodable"),
        ("25_0_1_20170109.jpg", b"", "empty file"),
        ("holiday.jpg", jpeg(), "holiday.jpg"),
        ("117_0_1_20170109.jpg", jpeg(), "117"),
        ("999_0_1_20170109.jpg", jpeg(), "999"),
        ("25_7_1_20170109.jpg", jpeg(), "7"),
        ("notes.txt", b"This is a text.", "not a picture"),
    ],
)
def test_one_bad_file_among_good_ones_is_dropped_with_its_reason(folder, tmp_path, name, content, reason):
    (folder / name).write_bytes(content)
    dropped = reasons(folder, tmp_path)
    assert list(dropped) == [name]
    assert reason in name + dropped[name]
    assert dropped[name]


@pytest.mark.parametrize("name", ["24_0_1_20170116 .jpg.chip.jpg", "55_0_0_20170116jpg.chip.jpg", "61_1_20170109.jpg"])
def test_odd_names_are_kept(folder, tmp_path, name):
    (folder / name).write_bytes(jpeg())
    assert reasons(folder, tmp_path) == {}


def test_a_folder_without_a_single_utkface_name(tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/holiday.jpg").write_bytes(jpeg())
    with pytest.raises(ValueError, match=r"None of the 1 pictures .* has a label: expected a name such as 25_1_2_2017"):
        load_faces(DataArguments(dataset=str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache")), seed=0)


def test_a_folder_without_a_picture(tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match="holds no picture"):
        load_faces(DataArguments(dataset=str(tmp_path / "faces"), cache_dir=str(tmp_path / "cache")), seed=0)


def test_mostly_unusable(folder, tmp_path):
    for index in range(20):
        (folder / f"25_0_1_{index}.jpg").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"20 of the 80 pictures .* cannot be used"):
        load_faces(DataArguments(dataset=str(folder), cache_dir=str(tmp_path / "cache")), seed=0)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tgz"])
def test_empty_and_damaged_archives(tmp_path, suffix):
    empty, damaged = tmp_path / f"empty{suffix}", tmp_path / f"damaged{suffix}"
    if suffix == ".zip":
        zipfile.ZipFile(empty, "w").close()
    else:
        tarfile.open(empty, "w:gz").close()
    damaged.write_bytes(b"no archive")
    for source in (empty, damaged):
        with pytest.raises(ValueError, match=source.name.partition(".")[0]):
            load_faces(DataArguments(dataset=str(source), cache_dir=str(tmp_path / "cache")), seed=0)


def test_an_archive_that_climbs_and_links_writes_nothing_outside(folder, tmp_path):
    source = tmp_path / "nested" / "faces.tar.gz"
    source.parent.mkdir()
    with tarfile.open(source, "w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=f"UTKFace/{path.name}")
        climbing = tarfile.TarInfo("../25_0_1_20170109.jpg")
        climbing.size = len(jpeg())
        archive.addfile(climbing, io.BytesIO(jpeg()))
        link = tarfile.TarInfo("UTKFace/26_0_1_20170109.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    dropped = reasons(source, tmp_path)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    assert "UTKFace/26_0_1_20170109.jpg" in dropped
