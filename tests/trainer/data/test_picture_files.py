"""Which files count as pictures, by their names and, where these say nothing, by their content."""

import os
import struct

import PIL.Image
import pytest

from model.image_formats import FORMAT_SUFFIXES, FORMATS, SUFFIXES
from model.image_loading import PictureError, load_rgb
from tests.support.faces_on_disk import as_jpeg, draw_detailed_face, face_files, write_archive, write_folder
from tests.support.odd_pictures import encoded
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.picture_files import HIDDEN, NOT_A_PICTURE, start_of, why_no_picture
from trainer.data.sources import read_pictures


PICTURE = draw_detailed_face(1, size=48)
JPEG = as_jpeg(PICTURE)


def test_all_names_that_pillow_knows_for_these_formats_are_listed():
    PIL.Image.init()
    known = {suffix for suffix, kind in PIL.Image.registered_extensions().items() if kind in (*FORMATS, "MPO")}
    assert known <= set(SUFFIXES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_listed_name_is_read(suffix, tmp_path):
    """As Pillow saves it under that name; .pjpeg and .pjp are names of JPEG that Pillow does not know."""
    path = tmp_path / f"face{suffix}"
    kind = PIL.Image.registered_extensions().get(suffix, "JPEG")
    picture = PICTURE.convert("F") if suffix == ".pfm" else PICTURE
    picture.save(path, kind)
    assert why_no_picture(path.name.upper(), lambda: b"") == ""
    assert load_rgb(path).shape == (48, 48, 3)
    assert suffix in {name for names in FORMAT_SUFFIXES.values() for name in names}


BY_CONTENT = {
    **{
        f"photo as {kind}": ("photo", encoded(kind, PICTURE), "")
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
    },
    **{f"photo as {kind}": ("photo", encoded(kind, PICTURE), "") for kind in ("JPEG2000", "PPM", "HEIF")},
    "saved from the web": ("photo.jpg_large", JPEG, ""),
    "octets": ("photo.bin", JPEG, ""),
    "numbered": ("photo.20170101", JPEG, ""),
    "comment in a PPM": ("photo", b"P6 # by hand\n2 2\n255\n" + bytes(12), ""),
    "nothing in it": ("photo", b"", NOT_A_PICTURE),
    "one letter": ("a", b"a", NOT_A_PICTURE),
    "text that begins as a BMP": ("LICENSE", b"BMW grants you, free of charge, the right to drive.", NOT_A_PICTURE),
    "text that begins as a PPM": ("notes.org", b"P3 is the third paragraph.", NOT_A_PICTURE),
    "numbers that begin as a DIB": ("values.dat", struct.pack("<9I", 40, *range(8)), NOT_A_PICTURE),
    "a text by its name": ("photo.txt", JPEG, NOT_A_PICTURE),
    "raw photo": ("photo.CR2", encoded("TIFF", PICTURE), NOT_A_PICTURE),
    "thumbnail of a video": ("film.thm", JPEG, NOT_A_PICTURE),
    "video": ("film.mp4", b"\0\0\0\x18ftypisom", NOT_A_PICTURE),
}
DAMAGED = {"no picture by its content": ("photo.jpg", b"text")}  # an error and not skipped


@pytest.mark.parametrize(("name", "content", "expected"), BY_CONTENT.values(), ids=BY_CONTENT)
def test_names_and_contents(name, content, expected):
    assert why_no_picture(name, lambda: content) == expected


@pytest.mark.parametrize(("name", "content"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_picture_is_not_skipped(name, content):
    assert why_no_picture(name, lambda: content) == ""
    with pytest.raises(PictureError):
        load_rgb(content)


HIDDEN_NAMES = [
    "._x.jpg",
    "album/._x.jpg",
    "__MACOSX/x.jpg",
    "album\\__MACOSX\\._x.jpg",
    ".Trash-1000/files/x.jpg",
    ".ipynb_checkpoints/x-checkpoint.jpg",
    "@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".thumbnails/x.jpg",
    "#recycle/x.jpg",
    "$RECYCLE.BIN/x.jpg",
    "x.jpg~",
]


@pytest.mark.parametrize("name", HIDDEN_NAMES)
def test_files_of_systems_and_programs_are_hidden(name):
    assert why_no_picture(name, lambda: JPEG) == HIDDEN


@pytest.mark.parametrize("name", ["./x.jpg", "a.b/x.jpg", "../x.jpg", "MACOSX/x.jpg", "~/x.jpg", "a@b/#1.jpg"])
def test_names_that_only_look_hidden(name):
    assert why_no_picture(name, lambda: b"") == ""


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert start_of(tmp_path / "pipe") == start_of(tmp_path / "absent") == b""


@pytest.mark.parametrize("suffix", ["", ".tar", ".zip"])
def test_neither_hidden_faces_nor_their_labels_are_trained_on(suffix, cache, tmp_path):
    """Each name is a good label; deleted and copied faces came back, and copies of the table counted as another table."""
    faces = face_files(30)
    hidden = {
        f"{folder}20_1_0_20170101.jpg": as_jpeg(draw_detailed_face(index, size=48))
        for index, folder in enumerate(
            ["._", "__MACOSX/", ".Trash-1000/files/", ".ipynb_checkpoints/", "@eaDir/", "x/.thumbnails/"]
        )
    }
    table = "file_name,age\n" + "\n".join(f"{name},{name.split('_')[0]}" for name in faces)
    hidden[".ipynb_checkpoints/metadata.csv"] = table.replace("file_name", "name").encode()
    content = face_files(30) | {"no_name": b"", "metadata.csv": table.encode()} | hidden
    path = tmp_path / f"faces{suffix}"
    path = write_archive(path, content.items()) if suffix else write_folder(path, content)
    args = DataArguments(dataset=str(path), cache_dir=cache, max_unusable_fraction=0)
    rows = read_pictures(args)
    problems = dict(zip(rows["file_name"], rows["problem"], strict=True))
    assert {problems[name] for name in hidden if name in problems} == {HIDDEN}
    assert problems["no_name"] == NOT_A_PICTURE
    assert sum(map(len, load_faces(args, seed=0).values())) == len(faces)


def test_a_face_without_a_suffix_is_trained_on(cache, tmp_path):
    faces = face_files(30)
    nameless = {f"face {index}": content for index, content in enumerate(faces.values())}
    table = "file_name,age\n" + "\n".join(
        f"{name},{face.split('_')[0]}" for name, face in zip(nameless, faces, strict=True)
    )
    folder = write_folder(tmp_path / "faces", nameless | {"metadata.csv": table.encode()})
    loaded = load_faces(DataArguments(dataset=str(folder), cache_dir=cache), seed=0)
    assert sum(map(len, loaded.values())) == 30
