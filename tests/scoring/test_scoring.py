"""The scorer: its order and memory, and the same answers as the pipeline."""

import io
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from huggingface_hub import HfApi
from skimage.data import astronaut
from transformers import AutoImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from scoring.output import OutputCounts, OutputError, Parts, answer_rows, table_schema
from scoring.scorer import Picture, Prefetcher, Scorer
from tests.support.faces_on_disk import as_jpeg
from tests.support.made_up_faces import draw_face
from tests.support.tiny_model import save_tiny_model
from tests.support.warm_python import warm_python


ROOT = Path(__file__).resolve().parents[2]
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
    command = [warm_python(), "-m", "scripts.predict", "user/faces", "--model", str(model), "--crops"]
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
    with pytest.raises(OutputError, match=r"read: .*part-000001\.parquet"):
        parts.merge(2)
    assert parts.merge(1) == OutputCounts(pictures=1, faces=0, errors=1)
    assert pq.read_table(io.BytesIO((tmp_path / "faces.parquet").read_bytes())).num_rows == 1
