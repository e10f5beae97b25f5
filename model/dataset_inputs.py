"""What transformers' pipelines take beside single pictures: rows and tensors of datasets, and streams of them.

Whoever wrote a dataset may have put any path of this machine, or any address, where a picture is expected. A row therefore
holds its picture, or names a file of the dataset's own folder, if the caller says which that is.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers.pipelines.pt_utils import KeyDataset

from .errors import PictureError
from .image_loading import EXPECTED, embedded_picture


IMAGE_COLUMN = "image"  # as in `datasets`; another column is chosen with KeyDataset(dataset, "column")
MAX_COLUMNS_SHOWN = 8


def as_list_or_stream(inputs: Any) -> Any:
    """One picture, a list, a generator or a map-style dataset of torch as it is; any other iterable as a generator.

    That is what the base class tells apart: https://github.com/huggingface/transformers/blob/main/src/transformers/pipelines/base.py

    Raises:
        PictureError: it is no picture, and there are none in it.
    """
    if isinstance(inputs, KeyDataset):
        # the base class reads the [0] of what is no stream
        return (
            _column_of(inputs.dataset, inputs.key) if _is_stream(inputs.dataset) or not len(inputs) else _Column(inputs)
        )
    if isinstance(inputs, tuple):
        return list(inputs)
    if isinstance(inputs, (list, *SINGLE_PICTURES)) or (isinstance(inputs, Dataset) and not _is_stream(inputs)):
        return inputs
    if isinstance(inputs, Iterable) and not isinstance(inputs, io.IOBase):  # a file would give its lines
        if type(inputs).__module__.partition(".")[0] == "datasets":
            return (item if isinstance(item, Mapping) else {IMAGE_COLUMN: item} for item in inputs)
        return (item for item in inputs)
    raise PictureError(f"Expected {EXPECTED}, or a list or dataset of them; got {type(inputs).__name__}.")


def picture_of(item: Any, dataset_folder: str | PathLike[str] | None = None) -> Any:
    """What `load_rgb` takes, out of a row of a dataset or a tensor; anything else as it is.

    A row is `{"image": picture}`, whatever other columns it has; its picture may be `{"bytes": ..., "path": ...}`, which
    `datasets` gives with `Image(decode=False)`. A tensor is (C, H, W) uint8, as `with_format("torch")` gives it.

    Args:
        dataset_folder: where the files lie that rows may name.

    Raises:
        PictureError: the row has no picture, or names an address or a file elsewhere; or the tensor is none.
    """
    if isinstance(item, Mapping):
        if IMAGE_COLUMN in item:
            return _picture_in_cell(item[IMAGE_COLUMN], dataset_folder)
        if item.keys() <= {"bytes", "path"} and (item.get("bytes") or item.get("path")):
            return _picture_in_cell(item, dataset_folder)
        columns = ", ".join(map(str, list(item)[:MAX_COLUMNS_SHOWN])) or "none"
        raise PictureError(
            f'Expected a row with the column "{IMAGE_COLUMN}"; it has {columns[:200]}. Give KeyDataset(dataset, column).'
        )
    if isinstance(item, torch.Tensor):
        if item.dtype != torch.uint8 or item.ndim not in (2, 3) or (item.ndim == 3 and item.shape[0] not in (1, 3, 4)):
            raise PictureError(
                "Expected a uint8 tensor of shape (H, W) or (C, H, W) with 1, 3 or 4 channels, 0 to 255; got "
                f"{str(item.dtype).removeprefix('torch.')} {tuple(item.shape)}. Convert it first."
            )
        array = item.detach().cpu().numpy()
        return array if array.ndim == 2 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return item


def _picture_in_cell(cell: Any, folder: str | PathLike[str] | None) -> Any:
    if isinstance(cell, Mapping) and cell.keys() <= {"bytes", "path"}:
        cell = cell.get("bytes") or cell.get("path")
    if not isinstance(cell, (str, PathLike)):
        return picture_of(cell, folder)
    picture: bytes | Path | None = embedded_picture(cell) if isinstance(cell, str) else None
    if picture is None and folder is not None:
        picture = file_of_set(fspath(cell), (Path(folder),))
    if picture is None:
        raise PictureError(
            "Expected the picture itself in this row; got an address, a path or a text. Give dataset_folder, if it names a "
            "file in there. What you trust you can give without its row: pipe(row['image'] for row in dataset)."
        )
    return picture


def file_of_set(name: str, folders: tuple[Path, ...]) -> Path | None:
    """The file at an absolute path, or at one relative to a folder; None for an address and for what lies elsewhere."""
    if "://" in name or "\0" in name:
        return None
    for folder in folders:
        path = (folder / name).resolve()
        try:
            if path.is_relative_to(folder.resolve()) and path.is_file():
                return path
        except OSError:  # a name too long for any file
            continue
    return None


class _Column(Dataset):
    """A column of a map-style dataset, as rows: what is in them was not named by the caller."""

    def __init__(self, cells: KeyDataset):
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {IMAGE_COLUMN: self._cells[index]}


SINGLE_PICTURES = (str, PathLike, bytes, bytearray, memoryview, PIL.Image.Image, np.ndarray, torch.Tensor, Mapping)


def _is_stream(dataset: Any) -> bool:
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")


def _column_of(rows: Any, column: str) -> Iterator[dict[str, Any]]:
    return ({IMAGE_COLUMN: row[column]} for row in rows)
