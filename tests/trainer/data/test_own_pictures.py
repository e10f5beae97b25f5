"""Rows that somebody else wrote name no file of this machine and no address, and are decoded by our own readers only."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from model.dataset_inputs import file_of_set
from model.image_loading import PictureError, load_rgb
from tests.support.loaded_faces import PREPARED_FEATURES
from tests.support.odd_pictures import encoded
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces
from trainer.data.rows import load_row_picture
from trainer.data.splits import SPLITS


GREY = np.full((32, 32, 3), 99, np.uint8)
FACE, POSTSCRIPT = encoded("PNG", GREY), encoded("EPS", GREY)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "secret.png"
    path.parent.mkdir()
    path.write_bytes(FACE)
    return path


def prepared_with(tmp_path: Path, picture: dict | None) -> Path:
    """A prepared set whose first training row is `picture`."""
    for split in SPLITS:
        rows = [
            {
                "image": picture if split == "train" and not row else {"bytes": FACE, "path": None},
                "age": 30,
                "gender": 0,
                "race": "unknown",
                "file_name": f"{split} {row}",
                "group": f"{split} {row}",
            }
            for row in range(3)
        ]
        file = tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        faces = Dataset.from_list(rows, features=PREPARED_FEATURES).cast_column("image", Image())
        table = faces.data.table.replace_schema_metadata(faces.features.arrow_schema.metadata)
        pq.write_table(table, file)  # to_parquet asks how long the files are
    return tmp_path / "set"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("what", ["a file elsewhere", "a way out", "an address", "nothing", "postscript"])
def test_prepared_rows(what: str, streaming: bool, secret: Path, tmp_path: Path):
    picture = {
        "a file elsewhere": {"bytes": None, "path": str(secret)},
        "a way out": {"bytes": None, "path": "../elsewhere/secret.png"},
        "an address": {"bytes": None, "path": "http://127.0.0.1:9/picture.png"},
        "nothing": None,
        "postscript": {"bytes": POSTSCRIPT, "path": None},
    }[what]
    folder = prepared_with(tmp_path, picture)
    faces = load_faces(
        DataArguments(dataset=str(folder), streaming=streaming, cache_dir=str(tmp_path / "cache")), seed=0
    )
    rows = {row["file_name"]: row for row in faces["train"]}
    assert load_row_picture(rows["train 1"]).shape == (32, 32, 3)
    message = "none of these" if what == "postscript" else "no picture: neither in the row nor a file of the set's own"
    with pytest.raises(PictureError, match=f"train 0: .*{message}"):
        load_row_picture(rows["train 0"])


def test_rows_of_the_hub(secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"image": {"bytes": FACE, "path": None}, "age": 30, "gender": "m"} for _ in range(40)]
    rng = np.random.default_rng(0)
    for row in rows:  # all different
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        row["image"] = {"bytes": encoded("PNG", pixels), "path": "its name"}
    for index, path in enumerate((str(secret), "http://127.0.0.1:9/a.png")):
        rows[index]["image"] = {"bytes": None, "path": path}
    features = Features(image=Image(), age=Value("int64"), gender=Value("string"))
    loaded = DatasetDict(train=Dataset.from_list(rows, features=features))
    monkeypatch.setattr("trainer.data.sources.load_checked", lambda *args, **options: loaded)
    faces = load_faces(DataArguments(dataset="user/set", cache_dir=str(tmp_path / "cache")), seed=0)
    assert sum(map(len, faces.values())) == 38
    names = {row["file_name"] for split in faces.values() for row in split}
    assert not names & {"row 0", "row 1"}


@pytest.mark.parametrize("is_cached_elsewhere", [False, True])
def test_a_column_of_paths_names_files_of_the_download_cache(
    is_cached_elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The column's type is text, which `datasets` does not take for pictures when it loads the set."""
    caches = {"own": tmp_path / "own", "other": tmp_path / "other"}
    rng = np.random.default_rng(0)
    for cache in caches.values():
        (cache / "downloads").mkdir(parents=True)
        for index in range(40):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            PILImage.fromarray(pixels).save(cache / "downloads" / f"{index}.png")
    named = caches["other" if is_cached_elsewhere else "own"]
    rows = [{"image": str(named / f"downloads/{index}.png"), "age": 30, "gender": "m"} for index in range(40)]
    loaded = DatasetDict(train=Dataset.from_list(rows))
    monkeypatch.setattr("trainer.data.sources.load_checked", lambda *args, **options: loaded)
    args = DataArguments(dataset="user/set", cache_dir=str(caches["own"]))
    if is_cached_elsewhere:
        with pytest.raises(DatasetError, match="no picture: neither in the row nor a file of the set's own folder"):
            load_faces(args, seed=0)
    else:
        assert sum(map(len, load_faces(args, seed=0).values())) == 40


def test_files_of_the_set_itself(tmp_path: Path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    file = tmp_path / "set" / "images" / "a.png"
    file.write_bytes(FACE)
    (tmp_path / "b.png").write_bytes(FACE)
    (tmp_path / "set" / "b.png").symlink_to(tmp_path / "b.png")
    folders = (tmp_path / "set",)
    for name in (str(file), "images/a.png"):
        assert file_of_set(name, folders) == file
    assert load_rgb(file).shape == (32, 32, 3)
    for name in (
        "b.png",
        "../b.png",
        str(tmp_path / "b.png"),
        "images",
        "",
        "a\0b",
        "x" * 10_000,
        "file:///etc/passwd",
        "hf://x/y",
    ):
        assert file_of_set(name, folders) is None
