"""Arrow files that expand, lie about their length or are damaged, wherever they lie."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from datasets.exceptions import DatasetGenerationError

from tests.support.expanding_tables import NOISE, ZEROS, first_row, little_memory, refusal
from trainer.data import DatasetError
from trainer.data.checked_loading import load_checked


def arrow_file(
    path: Path,
    batch: pa.RecordBatch,
    times: int = 1,
    is_stream: bool = True,
    metadata: dict[str, str] | None = None,
    **options: object,
) -> Path:
    """With the same batch so many times."""
    new, options = pa.ipc.new_stream if is_stream else pa.ipc.new_file, pa.ipc.IpcWriteOptions(**options)
    with path.open("wb") as file, new(file, batch.schema, options=options) as writer:
        for _ in range(times):
            writer.write_batch(batch, custom_metadata=metadata)
    return path


def compressed_by_metadata(path: Path) -> Path:
    """As Arrow 0.17 wrote it: nothing but a word in a message's metadata says that the body is compressed."""
    data = len(ZEROS).to_bytes(8, "little") + pa.compress(ZEROS, codec="zstd", asbytes=True)
    batch = pa.record_batch({"image": np.frombuffer(data, np.uint8)})
    metadata = {"ARROW:experimental_compression": "zstd"}
    return arrow_file(path, batch, metadata=metadata, metadata_version=pa.ipc.MetadataVersion.V4)


def lying_length(path: Path, compression: str) -> Path:
    """It says that it becomes a terabyte, which Arrow would make room for."""
    arrow_file(path, pa.record_batch({"image": [ZEROS]}), compression=compression)
    content = path.read_bytes()
    true = len(ZEROS).to_bytes(8, "little")
    assert true in content
    path.write_bytes(content.replace(true, (2**40).to_bytes(8, "little")))
    return path


VIEW = len(NOISE).to_bytes(4, "little") + NOISE[:4] + bytes(8)  # of the first buffer, from its beginning
SHARED = pa.Array.from_buffers(pa.binary_view(), 600, [None, pa.py_buffer(VIEW * 600), pa.py_buffer(NOISE)])


ARROW_BOMBS: dict[str, Callable[[Path], Path]] = {
    "zeros": lambda path: arrow_file(path, pa.record_batch({"image": [ZEROS]}), 11, compression="zstd"),
    "zeros in a file": lambda path: arrow_file(
        path, pa.record_batch({"image": [ZEROS]}), 11, is_stream=False, compression="zstd"
    ),
    "as Arrow 0.17 wrote it": compressed_by_metadata,
    "a terabyte, as it says": lambda path: lying_length(path, "zstd"),
    "a terabyte by LZ4, as it says": lambda path: lying_length(path, "lz4"),
    "zeros in a dictionary": lambda path: arrow_file(
        path, pa.record_batch({"image": pa.array([ZEROS]).dictionary_encode()}), compression="zstd"
    ),
    "one value of a dictionary": lambda path: arrow_file(
        path, pa.record_batch({"image": pa.array([NOISE] * 600).dictionary_encode()})
    ),
    "views of one value": lambda path: arrow_file(path, pa.record_batch({"image": SHARED})),
    "views in pictures": lambda path: arrow_file(
        path, pa.record_batch({"image": pa.StructArray.from_arrays([SHARED], ["bytes"])})
    ),
}


@pytest.mark.parametrize("name", ARROW_BOMBS)
def test_arrow_that_expands_is_refused_wherever_it_lies(name: str, tmp_path: Path):
    path = ARROW_BOMBS[name](tmp_path / "bomb.arrow")
    address = f"memory://{tmp_path.name}.arrow"
    with fsspec.open(address, "wb") as file:
        file.write(path.read_bytes())
    with little_memory():
        for where, streaming in ((str(path), False), (str(path), True), (address, True)):
            assert "like a decompression bomb" in refusal(where, streaming, tmp_path, "arrow")


def test_more_rows_than_bytes_of_arrow_are_not_believed(tmp_path: Path):
    path = arrow_file(tmp_path / "faces.arrow", pa.record_batch({"image": pa.nulls(10_000_000)}))
    assert "claims 10,000,000 rows" in refusal(str(path), False, tmp_path, "arrow")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lz4"},
        {"compression": "zstd"},
        {"is_stream": False},
        {"is_stream": False, "compression": "zstd"},
        {"metadata_version": pa.ipc.MetadataVersion.V4},
        {"metadata_version": pa.ipc.MetadataVersion.V4, "use_legacy_format": True},
    ],
    ids=str,
)
def test_honest_arrow_is_read_from_anywhere(options: dict, tmp_path: Path):
    noise = np.random.default_rng(0)
    rows = [{"image": {"bytes": noise.bytes(1000), "path": None}, "age": n, "tags": [n, 1]} for n in range(100)]
    genders = ["male", "female"] * 50
    batch = pa.RecordBatch.from_pylist(rows).append_column("gender", pa.array(genders).dictionary_encode())
    path, address = tmp_path / "faces.arrow", f"memory://{tmp_path.name}.arrow"
    arrow_file(path, batch, 3, **options)
    with fsspec.open(address, "wb") as file:
        file.write(path.read_bytes())
    expected = [row | {"gender": gender} for row, gender in zip(rows, genders, strict=True)] * 3
    for where, streaming in ((str(path), False), (str(path), True), (address, True)):
        table = load_checked("arrow", data_files={"train": where}, cache_dir=str(tmp_path), streaming=streaming)
        assert list(table["train"]) == expected


@pytest.mark.parametrize("kept", [9, 100, -30])
def test_damaged_arrow_is_an_error(kept: int, tmp_path: Path):
    """Cut in its head, in its schema, in its footer."""
    path = arrow_file(tmp_path / "faces.arrow", pa.record_batch({"image": [NOISE]}), 3, is_stream=False)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises((DatasetError, DatasetGenerationError, pa.ArrowInvalid)):
        first_row(str(path), False, tmp_path, "arrow")
