"""Archives, tables and files that claim or become far more than their bytes say are refused before they are read."""

import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import IterableDatasetDict

from model.errors import AgeGenderError
from model.image_loading import load_rgb
from scoring.tables import ParquetFile
from tests.support.expanding_tables import MANY, NOISE, PEAK, ZEROS, little_memory, refusal
from tests.support.faces_on_disk import face_files, write_folder
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.checked_loading import load_checked
from trainer.data.loading import load_faces
from trainer.data.manifest import read_manifest
from trainer.data.sources import read_pictures


def long_header(folder: Path, kind: bytes) -> Path:
    path = folder / "faces.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        header = tarfile.TarInfo("header")
        header.type, header.size = kind, MANY
        archive.addfile(header, io.BytesIO(bytes(MANY)))
    return path


def wide_table(folder: Path, line: int) -> Path:
    """Of three million columns, in one of its lines; a quoted line break is in its last row."""
    lines = [b"file_name,age", b"a.jpg,20", b'"b', b'b.jpg",20']
    lines[line] += b",1" * 3_000_000
    return write_folder(folder / "faces", face_files(4) | {"metadata.csv": b"\n".join(lines)})


def sparse_file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def long_table(folder: Path) -> Path:
    faces = write_folder(folder / "faces", face_files(4))
    sparse_file(faces / "metadata.csv", 3 * 2**30)
    return faces


def prepared_set(folder: Path) -> Path:
    """A value that is small in the file and large in memory."""
    data = folder / "faces" / "data"
    data.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        table = pa.table({"image": [bytes(MANY)], "age": [20], "gender": ["male"]})
        pq.write_table(table, data / f"{split}-00000-of-00001.parquet", compression="zstd", use_dictionary=False)
    return data.parent


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            lambda folder: long_header(folder, tarfile.XHDTYPE), "a header of 104,857,600 bytes", id="pax header"
        ),
        pytest.param(
            lambda folder: long_header(folder, tarfile.XGLTYPE), "a header of 104,857,600 bytes", id="global pax"
        ),
        pytest.param(lambda folder: long_header(folder, tarfile.GNUTYPE_LONGNAME), "a header of", id="long name"),
        pytest.param(lambda folder: wide_table(folder, 0), "3,000,002 columns; at most 1,000", id="columns"),
        pytest.param(lambda folder: wide_table(folder, 1), "3,000,002 columns; at most 1,000", id="cells of a row"),
        pytest.param(
            lambda folder: wide_table(folder, 3), "3,000,002 columns; at most 1,000", id="cells after a line break"
        ),
        pytest.param(long_table, "3,221,225,472 bytes; at most", id="sparse table"),
        pytest.param(prepared_set, "like a decompression bomb", id="parquet value"),
    ],
)
def test_what_would_fill_the_memory_is_refused(make: Callable[[Path], Path], expected: str, tmp_path: Path, cache: str):
    dataset = make(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(AgeGenderError, match=expected):
            load_faces(DataArguments(dataset=str(dataset), cache_dir=cache), seed=0)
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


def test_a_wide_manifest_is_refused(tmp_path: Path):
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"file_name" + b",1" * 3_000_000)
    with pytest.raises(AgeGenderError, match="3,000,001 columns; at most 1,000"):
        read_manifest(str(path))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_long_tables_and_quoted_separators_are_read(line_end: str, tmp_path: Path, cache: str):
    files = face_files(4)
    rows = [f'{name},{20 + index},"{"," * 1200}"' for index, name in enumerate(files)]
    rows += [f"no{index}.jpg,20," for index in range(1200)]
    table = line_end.join(["file_name,age,notes", *rows]).encode()
    write_folder(tmp_path / "faces", files | {"metadata.csv": table})
    args = DataArguments(dataset=str(tmp_path / "faces"), cache_dir=cache)
    ages = [row["age"] for row in read_pictures(args) if row["image"]]
    assert sorted(ages) == [20, 21, 22, 23]


def test_a_sparse_picture_is_refused(tmp_path: Path, cache: str):
    folder = write_folder(tmp_path / "faces", face_files(4))
    picture = sparse_file(folder / "20_0_0_20170101.jpg", 3 * 2**30)
    with pytest.raises(AgeGenderError, match=r"20_0_0_20170101\.jpg has 3,221,225,472 bytes; at most"):
        load_rgb(picture)
    rows = read_pictures(DataArguments(dataset=str(folder), cache_dir=cache))
    (row,) = [row for row in rows if row["file_name"] == picture.name]
    assert row["problem"] == "too large: 3221225472 bytes, at most 536870912 are read"


# pyarrow's options, and the columns
PARQUET_BOMBS = {
    "zeros": ({"use_dictionary": False}, {"image": [ZEROS]}),
    "one value of a dictionary": ({}, {"image": [NOISE] * 600}),
    "one value of a dictionary, in pages of version 2": ({"data_page_version": "2.0"}, {"image": [NOISE] * 600}),
    "pictures of `datasets`": ({}, {"image": [{"bytes": NOISE, "path": "a.png"}] * 600}),
    "what values share": (
        {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}},
        {"image": [NOISE] * 600},
    ),
    "numbers": ({}, {"image": [b"a"], "numbers": [np.zeros(10_000_000, np.int64)]}),
}


def parquet_bomb(path: Path, name: str, lies: bool) -> Path:
    """`lies`: its footer says that it becomes a few bytes."""
    options, columns = PARQUET_BOMBS[name]
    pq.write_table(
        pa.table({key: pa.array(values) for key, values in columns.items()}), path, compression="zstd", **options
    )
    if lies:
        content, metadata = path.read_bytes(), pq.read_metadata(path)
        sizes = [metadata.row_group(0).column(n).total_uncompressed_size for n in range(metadata.num_columns)]
        for size in {*sizes, metadata.row_group(0).total_byte_size}:
            true = varint(2 * size)  # in zigzag
            content = content.replace(true, b"\x80" * (len(true) - 1) + b"\0")  # 0 in as many bytes
        path.write_bytes(content)
        assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 0
    return path


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize("lies", [False, True], ids=["", "and lies"])
@pytest.mark.parametrize("name", PARQUET_BOMBS)
def test_parquet_that_expands_is_refused_wherever_it_lies(name: str, lies: bool, tmp_path: Path):
    """`datasets` reads a set of the Hub with the same code as files that are named: a download, or a stream of an address."""
    path = parquet_bomb(tmp_path / "bomb.parquet", name, lies)
    address = f"memory://{tmp_path.name}.parquet"
    with fsspec.open(address, "wb") as file:
        file.write(path.read_bytes())
    with little_memory():
        for where, streaming in ((str(path), False), (str(path), True), (address, True)):
            assert "like a decompression bomb" in refusal(where, streaming, tmp_path)
        assert "like a decompression bomb" in (ParquetFile(path, "image").problem or "")


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}], ids=str)
def test_honest_parquet_is_read_from_anywhere(compression: str, options: dict, tmp_path: Path):
    noise = np.random.default_rng(0)
    rows = [{"image": noise.bytes(1000), "name": f"{n}", "age": n, "tags": [n, 1]} for n in range(250)]
    path, address = tmp_path / "faces.parquet", f"memory://{tmp_path.name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100, compression=compression, **options)
    with fsspec.open(address, "wb") as file:
        file.write(path.read_bytes())
    for where in (str(path), address):
        table = load_checked("parquet", data_files={"train": where}, cache_dir=str(tmp_path), streaming=True)
        assert isinstance(table, IterableDatasetDict)
        assert list(table["train"]) == rows


@pytest.mark.parametrize("damage", [b"PAR1", b"PAR1" + b"\xff" * 40 + b"\xff\xff\xff\x7fPAR1"])
def test_damaged_parquet_of_an_address_is_one_error(damage: bytes, tmp_path: Path):
    address = f"memory://{tmp_path.name}.parquet"
    whole = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"image": [NOISE]}), whole)
    with fsspec.open(address, "wb") as file:
        file.write(whole.read_bytes())
    table = load_checked("parquet", data_files={"train": address}, cache_dir=str(tmp_path), streaming=True)
    with fsspec.open(address, "wb") as file:
        file.write(damage)
    with pytest.raises((DatasetError, pa.ArrowInvalid)):
        list(table["train"])


def test_a_table_without_pictures_is_not_parsed(tmp_path: Path):
    path = tmp_path / "faces.csv"
    path.write_bytes(b"image" + b",1" * 3_000_000)
    with pytest.raises(DatasetError, match="files of the kind Csv, which holds no pictures"):
        load_checked("csv", data_files=str(path), cache_dir=str(tmp_path), streaming=False)


def test_a_parquet_file_that_expands_is_one_problem_of_predict(tmp_path: Path):
    table = pa.table({"image": [bytes(MANY)]})
    pq.write_table(table, tmp_path / "faces.parquet", compression="zstd", use_dictionary=False)
    file = ParquetFile(tmp_path / "faces.parquet", "image")
    assert file.count() == 1
    assert "like a decompression bomb" in (file.problem or "")


def test_more_rows_than_bytes_are_not_believed(tmp_path: Path):
    """Nulls take no bytes: a file of a few kB may claim any number of rows."""
    rows = 10_000_000
    pq.write_table(pa.table({"image": pa.nulls(rows, pa.binary())}), tmp_path / "faces.parquet")
    file = ParquetFile(tmp_path / "faces.parquet", "image")
    assert f"claims {rows:,} rows" in (file.problem or "")
    assert file.count() == 1
