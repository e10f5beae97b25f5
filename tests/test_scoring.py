"""The machinery of scoring: where pictures come from, in which order, in how much memory, beside what the pipeline says."""

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from huggingface_hub import HfApi
from skimage.data import astronaut
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from scoring.inputs import all_entries, open_sources
from scoring.parts import Parts
from scoring.prefetch import Prefetcher
from scoring.rows import answer_rows, table_schema
from scoring.run import Plan
from scoring.scorer import Picture, Scorer, read_entries
from tests.faces_on_disk import as_jpeg, face_files, write_archive, write_folder
from tests.made_up_faces import draw_face
from tests.tiny_model import save_tiny_model


ROOT = Path(__file__).resolve().parents[1]
FILES = {f"{name}.jpg": as_jpeg(draw_face(30, 0, seed)) for seed, name in enumerate(["b/two", "a", "b/one", "c"])}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scoring") / "tiny"
    save_tiny_model(folder, min_face_pixels=8)
    return folder


def load(folder: Path) -> dict:
    return {
        "model": AgeGenderModel.from_pretrained(folder),
        "image_processor": AutoImageProcessor.from_pretrained(folder),
    }


def read(*names: object, **options) -> dict[str, object]:
    """{entry: content, or the problem with it} of everything in these inputs."""
    sources = open_sources([str(name) for name in names], **options)
    pictures = list(read_entries(all_entries(sources)))
    assert Plan.of(sources).pictures == len(pictures)
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
    with pytest.raises(FileNotFoundError, match=r"fits no file \(a \.txt of paths must be named"):
        read(tmp_path / "b" / "*.txt")


@pytest.mark.parametrize("name", ["photos", "photos/*.jpg", "list.txt", "photos.zip"])
def test_pictures_that_are_replaced_are_noticed(tmp_path, name):
    """A run that was killed must not go on with others under the same names."""
    (tmp_path / "list.txt").write_text(str(tmp_path / "photos/a.jpg"))

    def signature() -> str:
        return Plan.of(open_sources([str(tmp_path / name)])).signature

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
    with pytest.raises(ValueError, match=r"no column 'image', only id, photo.*--image-column"):
        read(path)


def test_rows_that_are_not_wanted_are_not_read(tmp_path):
    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"image": [bytes([index]) for index in range(100)]}), path, row_group_size=40)
    entries = all_entries(open_sources([str(path)]))
    read_rows = [picture.content[0] for picture in read_entries(entries, lambda index: index in (3, 38, 41, 99))]
    assert read_rows == [3, 38, 41, 99]


@pytest.mark.parametrize(
    ("name", "message"), [("absent.jpg", "nothing at"), ("no/such/folder", "nothing at"), ("x*.jpg", "fits no")]
)
def test_nothing_to_look_at(tmp_path, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        read(tmp_path / name)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="found none"):
        Plan.of(open_sources([str(tmp_path)]))


def write_video(path: Path, frames: int, frame_rate: float) -> Path:
    """Each frame is grey, a little brighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), frame_rate, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 4 * index, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("frames_per_second", "expected"), [(1, [0, 10, 20]), (2.5, [0, 4, 8, 12, 16, 20, 24, 28]), (100, list(range(30)))]
)
def test_video_frames_by_the_clock(tmp_path, frames_per_second, expected):
    video = write_video(tmp_path / "film.avi", frames=30, frame_rate=10)
    sources = open_sources([str(video)], frames_per_second=frames_per_second)
    pictures = list(read_entries(all_entries(sources)))
    assert [picture.seconds for picture in pictures] == pytest.approx([frame / 10 for frame in expected])
    assert [picture.content.mean() / 4 for picture in pictures] == pytest.approx(expected, abs=0.5)
    assert Plan.of(sources).pictures == len(expected)


def test_damaged_videos_say_so(tmp_path):
    whole = write_video(tmp_path / "film.avi", frames=50, frame_rate=10).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "letter.mp4").write_text("no video")
    names = [str(tmp_path / "cut.avi"), str(tmp_path / "letter.mp4")]
    *frames, cut, letter = read_entries(all_entries(open_sources(names)))
    assert 1 <= len(frames) < 5
    assert cut.problem.startswith("damaged: it ends after")
    assert letter.problem.startswith("not a video")


@pytest.mark.slow
def test_hub_dataset(hub, tmp_path, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # read from the environment at import
    features = Features({"photo": Image(), "id": Value("int32")})
    rows = [{"photo": {"bytes": content, "path": None}, "id": 0} for content in FILES.values()]
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "train.parquet")
    api = HfApi(hub.url, token=hub.token)
    api.create_repo("user/faces", repo_type="dataset")
    api.upload_file(
        path_or_fileobj=(tmp_path / "train.parquet").read_bytes(),
        path_in_repo="data/train-00000-of-00001.parquet",
        repo_id="user/faces",
        repo_type="dataset",
    )
    command = [sys.executable, "-m", "scripts.predict", "user/faces", "--model", str(model), "--crops"]
    command += ["--image-column", "photo", "--output", str(tmp_path / "faces.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=hub.env, check=False)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "faces.parquet")
    assert table["file"].to_pylist() == [f"user/faces/train#{row}" for row in range(4)]
    assert table["age"].null_count == 0


def test_answers_are_the_pipelines(model):
    random = np.random.default_rng(0)
    crowd = np.tile(astronaut(), (1, 3, 1))
    photos = [astronaut(), crowd, np.zeros((80, 80, 3), np.uint8), random.integers(0, 255, (90, 70, 3), np.uint8)] * 2
    pictures = [Picture(index, f"{index}", None, photo) for index, photo in enumerate(photos)]
    scored = list(Scorer(**load(model), workers=3, batch_size=4).score(pictures))
    assert [one.index for one in scored] == list(range(8))
    pipe = AgeGenderPipeline(**load(model))
    for one, photo in zip(scored, photos, strict=True):
        expected = pipe(photo)
        assert len(one.faces) == len(expected)
        for face, other in zip(one.faces, expected, strict=True):
            assert face["box"] == other["box"]
            assert face["age"] == pytest.approx(other["age"])
            assert face["genders"] == pytest.approx(other["genders"])
    assert len(scored[1].faces) == 3


def test_a_picture_that_breaks_the_decoder_has_a_row(model):
    pictures = [Picture(0, "odd", None, object()), Picture(1, "whole", None, astronaut())]  # type: ignore[arg-type]
    odd, whole = Scorer(**load(model), workers=1).score(pictures)
    assert "got object" in odd.problem
    assert whole.faces
    [row] = answer_rows(odd)
    assert set(row) == {"picture", "file", "error"}


def test_memory_does_not_grow_with_the_input(model):
    """600 frames are 1.7 GB; what is prepared ahead, and the allocators' own reserve, are a fraction of it."""
    photo = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    scorer = Scorer(**load(model), workers=2, batch_size=16, detect=False)
    process = psutil.Process()
    list(scorer.score(Picture(index, "", None, photo.copy()) for index in range(50)))
    before = largest = process.memory_info().rss
    for _ in scorer.score(Picture(index, "", None, photo.copy()) for index in range(600)):
        largest = max(largest, process.memory_info().rss)
    assert largest - before < 150e6


def test_preparing_stays_within_its_bound_while_nobody_takes():
    taken = []

    def items():
        for index in range(1000):
            taken.append(index)
            yield index

    ahead = Prefetcher(items(), lambda item: item, lambda item: 1, workers=2, limit=10)
    iterator = iter(ahead)
    assert next(iterator) == 0
    time.sleep(0.3)
    assert len(taken) <= 10 + 2 + 2 + 1
    ahead.release(10)
    deadline = time.monotonic() + 20
    while len(taken) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 20 <= len(taken) <= 25
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("feed", "prepare"))]


def test_preparing_overlaps_and_keeps_the_order():
    meeting = threading.Barrier(5, timeout=20)  # passed only when five items are in hand at once

    def prepare(item):
        meeting.wait()
        time.sleep(0.01 * (item % 3))
        return item

    assert list(Prefetcher(range(20), prepare, lambda item: 1, workers=5, limit=100)) == list(range(20))


def test_an_error_of_the_source_reaches_whoever_takes():
    def items():
        yield 1
        raise OSError("the disk is gone")

    ahead = Prefetcher(items(), lambda item: item, lambda item: 1, workers=1, limit=10)
    with pytest.raises(OSError, match="the disk is gone"):
        list(ahead)


def test_parts_that_are_missing_are_not_passed_over(tmp_path):
    parts = Parts(tmp_path / "faces.parquet", table_schema(["0-17", "18+"], ["male", "female"]))
    parts.begin({})
    parts.write(0, [{"picture": 0, "file": "a.jpg", "error": "gone"}])
    with pytest.raises(RuntimeError, match="1 of 2 parts are missing"):
        parts.merge(2)
    assert parts.merge(1) == {"pictures": 1, "faces": 0, "errors": 1}
    assert pq.read_table(io.BytesIO((tmp_path / "faces.parquet").read_bytes())).num_rows == 1
