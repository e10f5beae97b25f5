"""Archives, tables and files that claim or become far more than their bytes say are refused before they are read."""

import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import AgeGenderError
from model.image_loading import load_rgb
from scoring.tables import ParquetFile
from tests.support.faces_on_disk import face_files, write_folder
from trainer.data.arguments import DataArguments
from trainer.data.loading import load_faces, read_pictures
from trainer.data.manifest import read_manifest


MANY = 100 * 2**20  # bytes of zeros, of which a compressed file keeps few
PEAK = 64 * 2**20  # bytes of Python's memory: far less than what the input becomes


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
