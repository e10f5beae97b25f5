"""Sources of pictures: their order, their counts, and what they say of what cannot be read."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.inputs import InputSummary, all_entries, describe_skipped, open_sources
from scoring.scorer import read_entries
from scoring.sources import InputError
from tests.scoring.test_scoring import FILES
from tests.support.faces_on_disk import face_files, write_archive, write_folder
from tests.support.made_up_faces import draw_face
from tests.support.odd_pictures import encoded


def read(*names: object, **options) -> dict[str, object]:
    """{entry: content, or the problem with it} of everything in these inputs."""
    sources = open_sources([str(name) for name in names], **options)
    pictures = list(read_entries(all_entries(sources)))
    assert InputSummary.of(sources).pictures == len(pictures)
    return {picture.name: picture.problem or picture.content for picture in pictures}


def test_folder_in_an_order_of_its_own(tmp_path):
    write_folder(tmp_path / "photos", dict(reversed(FILES.items())) | {"b/notes.txt": b"not looked at"})
    names = [str(tmp_path / "photos" / name) for name in ("a.jpg", "c.jpg", "b/one.jpg", "b/two.jpg")]
    assert list(read(tmp_path / "photos")) == names


def test_pattern_list_and_single_pictures(tmp_path):
    write_folder(tmp_path, FILES)
    one, two = str(tmp_path / "b/one.jpg"), str(tmp_path / "b/two.jpg")
    assert list(read(tmp_path / "b" / "*.jpg")) == [one, two]
    (tmp_path / "list.txt").write_text(f"{two}\n\nhttps://example.org/photo.jpg\n{one}\n")
    assert list(read(tmp_path / "list.txt", tmp_path / "a.jpg")) == [
        two,
        "https://example.org/photo.jpg",
        one,
        str(tmp_path / "a.jpg"),
    ]


def test_a_list_that_begins_with_a_byte_order_mark(tmp_path):
    write_folder(tmp_path, FILES)
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'a.jpg'}\n", encoding="utf-8-sig")
    assert list(read(tmp_path / "list.txt")) == [str(tmp_path / "a.jpg")]


def test_patterns_fit_neither_lists_nor_the_output(tmp_path):
    """What a kill left of the output lies among the pictures; so does a README."""
    write_folder(
        tmp_path,
        FILES | {"b/README.txt": b"Photos of 2019", "b/f.parquet": b"", "b/f.parquet.parts/part-000000.parquet": b""},
    )
    one, two = str(tmp_path / "b/one.jpg"), str(tmp_path / "b/two.jpg")
    output = tmp_path / "b" / ".." / "b" / "f.parquet"
    assert list(read(tmp_path / "b" / "*", output=output)) == [one, two]
    assert set(read(tmp_path / "b" / "**", output=output)) == {one, two}
    with pytest.raises(InputError, match=r"matches no file \(a \.txt of paths must be named"):
        read(tmp_path / "b" / "*.txt")


@pytest.mark.parametrize("pattern", ["**", "**/*", "**/*.jpg", "**/**/*"])
def test_a_pattern_for_everything_below_fits_each_picture_once(tmp_path, pattern):
    write_folder(tmp_path, {"a.jpg": b"", "deep/b.jpg": b"", "deep/down/c.jpg": b""})
    entries = all_entries(open_sources([str(tmp_path / pattern)]))
    assert sorted(Path(entry.name).name for entry in entries) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("name", ["photos", "photos/*.jpg", "list.txt", "photos.zip"])
def test_pictures_that_are_replaced_are_noticed(tmp_path, name):
    """A killed run must not resume with other pictures under the same names."""
    (tmp_path / "list.txt").write_text(str(tmp_path / "photos/a.jpg"))

    def signature() -> str:
        return InputSummary.of(open_sources([str(tmp_path / name)])).signature

    signatures = []
    for content in (b"first", b"other"):
        write_folder(tmp_path / "photos", {"a.jpg": content})
        write_archive(tmp_path / "photos.zip", [("a.jpg", content)])
        signatures += [signature(), signature()]
    assert signatures[0] == signatures[1] != signatures[2] == signatures[3]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_archive(tmp_path, suffix):
    members = [*FILES.items(), ("notes.txt", b"not looked at"), ("../out.jpg", b"left out")]
    archive = write_archive(tmp_path / f"faces{suffix}", members)
    contents = read(archive)
    assert contents.pop(f"{archive}/../out.jpg").startswith("unsafe path")
    assert contents == {f"{archive}/{name}": content for name, content in FILES.items()}


def test_a_damaged_archive_costs_only_what_is_damaged(tmp_path):
    files = face_files(40)
    whole = write_archive(tmp_path / "whole.tar.gz", files.items())
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(whole.read_bytes()[:-20_000])
    first, *_, last_but_one, last = read(damaged, whole).items()
    assert first[1] == next(iter(files.values()))
    contents = read(damaged, whole)
    assert any("cannot be read as an archive" in str(content) for content in contents.values())
    assert {last_but_one[0], last[0]} <= {f"{whole}/{name}" for name in files}


def test_parquet_rows_name_no_file_elsewhere_and_no_address(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(FILES["a.jpg"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.jpg").write_bytes(FILES["a.jpg"])
    path = tmp_path / "set" / "faces.parquet"
    names = ["a.jpg", str(tmp_path / "secret.jpg"), "../secret.jpg", "http://127.0.0.1:9/a.jpg"]
    for column in (names, [{"bytes": None, "path": name} for name in names]):
        pq.write_table(pa.table({"image": column}), path)
        own, *others = read(path).values()
        assert own == str(tmp_path / "set" / "a.jpg")
        assert all("got an address or another path" in str(other) for other in others)


@pytest.mark.parametrize("kind", ["datasets", "bytes", "paths"])
def test_parquet(tmp_path, kind):
    write_folder(tmp_path, FILES)
    column = {
        "datasets": [{"bytes": content, "path": name} for name, content in FILES.items()],
        "bytes": list(FILES.values()),
        "paths": [str(tmp_path / name) for name in FILES],
    }[kind]
    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"id": range(5), "photo": [*column, None]}), path, row_group_size=2)
    contents = read(path, image_column="photo")
    expected = column if kind == "paths" else list(FILES.values())
    assert list(contents.values())[:4] == expected
    assert "Expected an encoded picture" in contents[f"{path}#4"]
    later = [content for _, content in zip(range(2), read(path, image_column="photo").values(), strict=False)]
    assert later == expected[:2]
    with pytest.raises(InputError, match=r"no column 'image', only id, photo.*--image-column"):
        read(path)


def test_rows_that_are_not_wanted_are_not_read(tmp_path):
    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"image": [bytes([index]) for index in range(100)]}), path, row_group_size=40)
    entries = all_entries(open_sources([str(path)]))
    read_rows = [picture.content[0] for picture in read_entries(entries, lambda index: index in (3, 38, 41, 99))]
    assert read_rows == [3, 38, 41, 99]


def write_shard(path: Path, pictures: list[bytes], column: str = "image") -> Path:
    """In pages of eight rows, with the pictures as they are."""
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({column: pictures}), path, data_page_size=100, write_batch_size=8, **options)
    return path


def test_a_bad_parquet_file_costs_only_itself(tmp_path):
    write_folder(tmp_path, {"empty.parquet": b"", "portrait.jpg": FILES["a.jpg"]})
    write_shard(tmp_path / "unrelated.parquet", [b"x"], column="price")
    write_shard(tmp_path / "whole.parquet", [b"first", b"second"])
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    cut, empty, portrait, unrelated, *whole = read(tmp_path / "*").values()
    assert "cut.parquet cannot be read as a parquet file" in cut
    assert "empty.parquet cannot be read as a parquet file" in empty
    assert portrait == str(tmp_path / "portrait.jpg")
    assert "no column 'image', only price" in unrelated
    assert whole == [b"first", b"second"]
    with pytest.raises(InputError, match="cannot be read as a parquet file"):
        read(tmp_path / "cut.parquet", tmp_path / "empty.parquet")


def test_a_damaged_page_of_a_parquet_file_gives_no_row_another_ones_picture(tmp_path):
    pictures = [b"%04d" % index * 30 for index in range(100)]
    path = write_shard(tmp_path / "faces.parquet", pictures)
    content = path.read_bytes()
    at = content.index(pictures[40]) - 30  # in the header of its page
    path.write_bytes(content[:at] + b"\xff" * 20 + content[at + 20 :])
    read_rows = list(read(path).values())
    assert read_rows[:32] == pictures[:32]
    assert len(read_rows) == 100
    damaged = [row for row, picture in zip(read_rows, pictures, strict=True) if row != picture]
    assert damaged
    assert all(isinstance(row, str) and row for row in damaged)
    assert "the file is damaged before this row" in damaged


def test_more_parquet_files_than_a_process_may_open(tmp_path):
    for index in range(60):
        write_shard(tmp_path / f"{index:02d}.parquet", [b"%d" % index])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        contents = list(read(tmp_path / "*.parquet").values())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert contents == [b"%d" % index for index in range(60)]


def test_linked_folders_are_followed_once(tmp_path):
    write_folder(tmp_path, {"photos/a.jpg": b"a", "photos/b/c.jpg": b"c", "elsewhere/d.jpg": b"d"})
    (tmp_path / "photos/album").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/album again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/b/back").symlink_to(tmp_path / "photos")
    names = [str(tmp_path / "photos" / name) for name in ("a.jpg", "album/d.jpg", "b/c.jpg")]
    assert list(read(tmp_path / "photos")) == names


def test_a_folder_that_cannot_be_read_has_a_row(tmp_path):
    """Here one whose path is too long for the system; rights do not stop the superuser, who may run the tests."""
    write_folder(tmp_path / "photos", {"a.jpg": b"a", "z/b.jpg": b"b"})
    folder = os.open(tmp_path / "photos", os.O_RDONLY)
    for _ in range(17):
        os.mkdir("n" * 250, dir_fd=folder)
        deeper = os.open("n" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    a, unreadable, b = read(tmp_path / "photos").values()
    assert (Path(a).name, Path(b).name) == ("a.jpg", "b.jpg")
    assert "File name too long" in unreadable


@pytest.mark.parametrize(
    ("name", "message"), [("absent.jpg", "nothing at"), ("no/such/folder", "nothing at"), ("x*.jpg", "matches no")]
)
def test_nothing_to_look_at(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="found none"):
        InputSummary.of(open_sources([str(tmp_path)]))


ONE_PICTURE = encoded("JPEG", np.asarray(draw_face(30, 0, seed=0)))
UNDER_ALL_NAMES = (
    *("a.jfif", "b.jpe", "c.pjpeg", "d.JPG", "e.pgm", "f.ppm", "g.apng", "h.j2k", "i.dib", "j.hif", "k.heics", "l.mpo"),
    *("m", "n.jpg_large", "o.2"),
)
BESIDE_THEM = {
    **{"notes.txt": b"a", "more.txt": b"b", "film.mp4": b"c", "README": b"d", "page.html": ONE_PICTURE},
    **{"._a.jfif": b"e", "@eaDir/a.jfif": ONE_PICTURE, ".thumbnails/x.png": ONE_PICTURE},
}


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar.gz"])
def test_all_pictures_are_listed_and_the_rest_is_counted(tmp_path, suffix):
    files = dict.fromkeys(UNDER_ALL_NAMES, ONE_PICTURE) | BESIDE_THEM
    path = tmp_path / f"photos{suffix}"
    path = write_archive(path, files.items()) if suffix else write_folder(path, files)
    assert sorted(read(path)) == [f"{path}/{name}" for name in UNDER_ALL_NAMES]
    summary = InputSummary.of(open_sources([str(path)]))
    assert summary.skipped == {".txt": 2, ".mp4": 1, "without a suffix": 1, ".html": 1, "hidden file": 3}
    assert describe_skipped(summary.skipped).startswith("Skipped in folders and archives: 3 hidden files, 2 .txt, 1 ")
    assert describe_skipped(summary.skipped).endswith("videos and parquet files, name each as an input.")


def test_an_input_of_other_files_says_what_they_are(tmp_path):
    with pytest.raises(InputError, match=r"found none\. Skipped in folders and archives: 2 \.md\.$"):
        InputSummary.of(open_sources([str(write_folder(tmp_path / "notes", {"a.md": b"a", "b.md": b"b"}))]))


@pytest.mark.parametrize(
    ("pattern", "found", "hidden"),
    [
        ("**/*.jpg", ["a.jpg", "b/c.jpg"], 2),
        ("*.jpg", ["a.jpg"], 0),  # a wildcard stands for no dot at the start
        ("*/*.jpg", ["b/c.jpg"], 2),
        (".*/*.jpg", [".b/d.jpg"], 0),
        ("__MAC*/*.jpg", ["__MACOSX/a.jpg"], 0),
    ],
)
def test_patterns_pass_over_hidden_files_unless_they_name_them(tmp_path, pattern, found, hidden):
    names = ["a.jpg", "b/c.jpg", ".b/d.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg"]
    write_folder(tmp_path, dict.fromkeys(names, b"x"))
    sources = open_sources([str(tmp_path / pattern)])
    assert sorted(entry.name for entry in all_entries(sources)) == sorted(str(tmp_path / name) for name in found)
    assert InputSummary.of(sources).skipped["hidden file"] == hidden


def test_results_among_the_pictures_are_not_counted(tmp_path):
    output = tmp_path / "faces.csv"
    write_folder(
        tmp_path, {"a.jpg": b"x", "faces.csv": b"", "faces.csv.parts/part-000000.parquet": b"", "old.csv": b""}
    )
    assert InputSummary.of(open_sources([str(tmp_path)], output=output)).skipped == {".csv": 1}


@pytest.mark.slow
def test_datasets_is_imported_only_for_a_set_of_the_hub():
    """It takes 40 MiB, in each process that scores."""
    code = "import sys, scoring.run; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
