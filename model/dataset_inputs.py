"""What transformers' pipelines take beside single pictures: rows and tensors of datasets, and streams of them."""

import io
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers.pipelines.pt_utils import KeyDataset

from .errors import PictureError
from .image_loading import EXPECTED


IMAGE_COLUMN = "image"  # as in `datasets`; another column is chosen with KeyDataset(dataset, "column")
MAX_COLUMNS_SHOWN = 8


def as_list_or_stream(inputs: Any) -> Any:
    """One picture, a list, a generator or a map-style dataset of torch as it is; any other iterable as a generator.

    That is what the base class tells apart: https://github.com/huggingface/transformers/blob/main/src/transformers/pipelines/base.py

    Raises:
        PictureError: it is no picture, and there are none in it.
    """
    if isinstance(inputs, KeyDataset) and (
        _is_stream(inputs.dataset) or not len(inputs)
    ):  # the base class reads its [0]
        return _column_of(inputs.dataset, inputs.key)
    if isinstance(inputs, tuple):
        return list(inputs)
    if isinstance(inputs, (list, *SINGLE_PICTURES)) or (isinstance(inputs, Dataset) and not _is_stream(inputs)):
        return inputs
    if isinstance(inputs, Iterable) and not isinstance(inputs, io.IOBase):  # a file would give its lines
        return (item for item in inputs)
    raise PictureError(f"Expected {EXPECTED}, or a list or dataset of them; got {type(inputs).__name__}.")


def picture_of(item: Any) -> Any:
    """What `load_rgb` takes, out of a row of a dataset or a tensor; anything else as it is.

    A row is `{"image": picture}`, whatever other columns it has; its picture may be `{"bytes": ..., "path": ...}`, which
    `datasets` gives with `Image(decode=False)`. A tensor is (C, H, W) uint8, as `with_format("torch")` gives it.

    Raises:
        PictureError: the row has no picture, or the tensor is none.
    """
    if isinstance(item, Mapping):
        if IMAGE_COLUMN in item:
            return picture_of(item[IMAGE_COLUMN])
        if item.keys() <= {"bytes", "path"} and (item.get("bytes") or item.get("path")):
            return item.get("bytes") or item.get("path")
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


SINGLE_PICTURES = (str, PathLike, bytes, bytearray, memoryview, PIL.Image.Image, np.ndarray, torch.Tensor, Mapping)


def _is_stream(dataset: Any) -> bool:
    return isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__")


def _column_of(rows: Any, column: str) -> Iterator[Any]:
    return (row[column] for row in rows)
