"""The pipeline takes what transformers' own image pipelines take: rows, datasets of every kind, base64 text, tensors."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, coffee
from transformers.pipelines.pt_utils import KeyDataset

from model.image_loading import PictureError
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.tiny_model import IMAGE_SIZE, tiny_model
from trainer.build_model import make_image_processor


PHOTO, WITHOUT_FACE = (Image.fromarray(array) for array in (astronaut(), coffee()))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([PHOTO, WITHOUT_FACE])


class MapStyle(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": [PHOTO, WITHOUT_FACE][index], "age": 30}


@pytest.fixture(scope="module")
def pipe() -> AgeGenderPipeline:
    return AgeGenderPipeline(model=tiny_model(), image_processor=make_image_processor(IMAGE_SIZE), device="cpu")


@pytest.fixture(scope="module")
def answer(pipe: AgeGenderPipeline) -> list:
    return pipe(PHOTO)


@pytest.fixture(scope="module")
def table() -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "age": datasets.Value("int32")})
    rows = [{"image": {"bytes": png(image), "path": None}, "age": 30} for image in (PHOTO, WITHOUT_FACE)]
    return datasets.Dataset.from_list(rows, features)


ROWS = {
    "PIL": {"image": PHOTO, "label": 1},
    "bytes": {"image": {"bytes": png(PHOTO), "path": None}},
    "base64": {"image": base64.b64encode(png(PHOTO)).decode()},
    "bytes alone": {"bytes": png(PHOTO), "path": "a.png"},
    "tensor": {"image": torch.tensor(astronaut()).permute(2, 0, 1)},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row(pipe: AgeGenderPipeline, answer: list, row: dict):
    assert pipe(row) == answer
    assert pipe([row, row]) == [answer, answer]


def as_cell(cell: Any, **options: Any) -> Callable[[AgeGenderPipeline], Any]:
    """The answer about a row of this cell."""
    return lambda pipe: pipe({"image": cell}, **options)


def as_text_column(make: Callable[[datasets.Dataset], Any]) -> Callable[[str], Callable[[AgeGenderPipeline], Any]]:
    """The answers about a dataset with a column of texts."""

    def ask(text: str) -> Callable[[AgeGenderPipeline], Any]:
        return lambda pipe: list(pipe(make(datasets.Dataset.from_list([{"image": text}] * 2))))

    return ask


WAYS: dict[str, Callable[[str], Callable[[AgeGenderPipeline], Any]]] = {
    "a row": as_cell,
    "a row of a path": lambda text: as_cell(Path(text)),
    "an undecoded row": lambda text: as_cell({"bytes": None, "path": text}),
    "an undecoded cell": lambda text: lambda pipe: pipe({"path": text}),
    "a row in a row": lambda text: as_cell({"image": {"image": text}}),
    "a row of a folder": lambda text: as_cell(text, dataset_folder="model"),
    "rows": lambda text: lambda pipe: pipe([{"image": text}, {"image": text}]),
    "a row with boxes": lambda text: as_cell(text, boxes=[[0, 0, 9, 9]]),
    "a row with columns of these names": lambda text: lambda pipe: pipe({"picture": text, "boxes": [[0, 0, 9, 9]]}),
    "datasets": as_text_column(lambda table: table),
    "datasets, streamed": as_text_column(lambda table: table.to_iterable_dataset()),
    "column": as_text_column(lambda table: KeyDataset(table, "image")),
    "column of a stream": as_text_column(lambda table: KeyDataset(table.to_iterable_dataset(), "image")),
    "column of datasets": as_text_column(lambda table: table["image"]),
}


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", ["file", "address", "way out"])
def test_rows_name_no_file_and_no_address(pipe: AgeGenderPipeline, ask: Callable, kind: str, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(PHOTO))
    text = {
        "file": str(tmp_path / "a.png"),
        "address": "http://127.0.0.1:9/a.png",
        "way out": "../README.md",
    }[kind]
    with pytest.raises(PictureError, match=r'Expected the picture itself|Expected a row with the column "image"'):
        ask(text)(pipe)


def test_rows_name_files_of_the_folder_that_is_given(pipe: AgeGenderPipeline, answer: list, tmp_path: Path):
    path = tmp_path / "set" / "a.png"
    path.parent.mkdir()
    path.write_bytes(png(PHOTO))
    rows = [{"image": {"bytes": None, "path": str(path)}}, {"image": "a.png"}, {"image": path}]
    assert pipe(rows, dataset_folder=path.parent) == [answer] * 3
    assert list(pipe(row["image"] for row in rows[2:])) == [answer]  # the caller's own choice


def test_text_and_tensors(pipe: AgeGenderPipeline, answer: list):
    text = base64.b64encode(png(PHOTO)).decode()
    assert pipe([text, f"data:image/png;base64,{text}"]) == [answer, answer]
    assert pipe(torch.tensor(astronaut()).permute(2, 0, 1)) == answer
    box = [100, 30, 350, 320]
    assert pipe([text], boxes=[[box]])[0][0]["box"] == box
    assert pipe({"image": PHOTO}, boxes=[box])[0]["box"] == box


DATASETS: dict[str, Callable[[datasets.Dataset], Any]] = {
    "datasets": lambda table: table,
    "datasets, torch": lambda table: table.with_format("torch"),
    "datasets, numpy": lambda table: table.with_format("numpy"),
    "datasets, undecoded": lambda table: table.cast_column("image", datasets.Image(decode=False)),
    "datasets, streamed": lambda table: table.to_iterable_dataset(),
    "datasets, streamed, torch": lambda table: table.to_iterable_dataset().with_format("torch"),
    "column": lambda table: KeyDataset(table, "image"),
    "column of another name": lambda table: KeyDataset(table.rename_column("image", "photo"), "photo"),
    "column of a stream": lambda table: KeyDataset(table.to_iterable_dataset(), "image"),
    "column of a stream, torch": lambda table: KeyDataset(table.to_iterable_dataset().with_format("torch"), "image"),
    "column of datasets": lambda table: table["image"],
    "torch": lambda _: MapStyle(),
    "torch, column": lambda _: KeyDataset(MapStyle(), "image"),
    "torch, streamed": lambda _: Stream(),
    "iterator": lambda _: iter([PHOTO, WITHOUT_FACE]),
    "map": lambda _: map(np.asarray, [PHOTO, WITHOUT_FACE]),
    "generator of rows": lambda table: (row for row in table),
}


@pytest.mark.parametrize("make", DATASETS.values(), ids=DATASETS)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_dataset(pipe: AgeGenderPipeline, answer: list, table: datasets.Dataset, make: Callable, batch_size: int):
    assert list(pipe(make(table), batch_size=batch_size)) == [answer, []]


def test_empty_datasets(pipe: AgeGenderPipeline, table: datasets.Dataset):
    nothing = table.select([])
    for inputs in (nothing, KeyDataset(nothing, "image"), iter([]), ()):
        assert list(pipe(inputs)) == []


NO_PICTURES = {
    "a number": (5, "got int"),
    "nothing": (None, "got NoneType"),
    "a function": (print, "got builtin_function_or_method"),
    "an open file": (io.BytesIO(png(PHOTO)), "got BytesIO"),
    "numbers": ([5], "got int"),
    "a list of lists": ([[PHOTO]], "got list"),
    "a row without a picture": ({"label": 1, "photo": PHOTO}, "it has label, photo"),
    "an empty row": ({}, "it has none"),
    "an empty picture": ({"image": None}, "got NoneType"),
    "a float tensor": (torch.zeros(3, 8, 8), r"got float32 \(3, 8, 8\)"),
    "a batch of tensors": (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"uint8 \(2, 3, 8, 8\)"),
    "a long text": ("x" * 100_000, "100,000 characters"),
    "torn base64": (base64.b64encode(png(PHOTO)).decode()[:-5], "neither base64"),
    "half a picture in base64": (base64.b64encode(png(PHOTO)[:5000]).decode(), "the base64 text is damaged"),
    "a float array": (astronaut() / 255, "uint8 array"),
}


@pytest.mark.parametrize(("inputs", "message"), NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_picture(pipe: AgeGenderPipeline, inputs: Any, message: str):
    with pytest.raises(PictureError, match=message) as raised:
        pipe(inputs)
    assert len(str(raised.value)) < 400
