"""Reading tables that expand: what is refused, and how much memory that takes."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets.exceptions import DatasetGenerationError

from trainer.data import DatasetError
from trainer.data.checked_loading import load_checked


MANY = 100 * 2**20  # bytes of zeros, of which a compressed file keeps few
PEAK = 64 * 2**20  # bytes of Python's memory: far less than what the input becomes


ZEROS, NOISE = bytes(MANY), np.random.default_rng(0).bytes(2**18)


def first_row(path: str, streaming: bool, folder: Path, kind: str = "parquet") -> dict:
    table = load_checked(kind, data_files={"train": path}, cache_dir=str(folder / "cache"), streaming=streaming)
    return next(iter(table["train"]))


def refusal(path: str, streaming: bool, folder: Path, kind: str = "parquet") -> str:
    with pytest.raises((DatasetError, DatasetGenerationError)) as raised:
        first_row(path, streaming, folder, kind)
    error = raised.value if isinstance(raised.value, DatasetError) else raised.value.__cause__
    assert isinstance(error, DatasetError)
    return str(error)


POOLS: list[pa.MemoryPool] = []  # kept: an exception's frames may hold buffers of theirs for longer than a test


@contextmanager
def little_memory() -> Iterator[None]:
    """Of Arrow and of Python."""
    usual, counted = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    POOLS.append(counted)
    pa.set_memory_pool(counted)
    tracemalloc.start()
    try:
        yield
        assert counted.max_memory() + tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
