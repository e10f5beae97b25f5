"""Archives in a set of `datasets`, such as one of the Hub, obey the limits of archives that are named directly."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetGenerationError

from model.image_loading import load_rgb
from tests.support.faces_on_disk import face_files
from trainer.data import DatasetError
from trainer.data.checked_loading import load_checked


MANY = 100 * 2**20  # bytes of zeros, of which a compressed file keeps few
PEAK = 70 * 2**20  # bytes of Python's memory: far less than what the input becomes


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], first: tarfile.TarInfo | None = None, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        if first:
            first.size = MANY
            archive.addfile(first, io.BytesIO(bytes(MANY)))
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def long_header(kind: bytes) -> tarfile.TarInfo:
    header = tarfile.TarInfo("header")
    header.type = kind
    return header


def wide(lines: str) -> bytes:
    return (lines + ",1" * 3_000_000).encode()


def parquet_of_zeros() -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"file_name": ["a.png"], "zeros": [bytes(MANY)]})
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


PICTURES = {f"{n}.jpg": content for n, content in enumerate(face_files(4).values())}
# kind of set, name of its file, content, message
BOMBS: dict[str, tuple[str, str, Callable[[], bytes], str]] = {
    "zip": ("imagefolder", "a.zip", lambda: zip_of({"a.png": bytes(MANY)}), "like a decompression bomb"),
    "zip of many": (
        "imagefolder",
        "a.zip",
        lambda: zip_of({f"{n}.png": bytes(MANY // 10) for n in range(10)}),
        "like a decompression bomb",
    ),
    "tar called zip": ("imagefolder", "a.zip", lambda: tar_of({"a.png": bytes(MANY)}), "cannot be read as an archive"),
    "gzip called zip": ("imagefolder", "a.zip", lambda: gzip.compress(bytes(MANY)), "cannot be read as an archive"),
    "table in a zip": (
        "imagefolder",
        "a.zip",
        lambda: zip_of({**PICTURES, "metadata.csv": wide("file_name,age\n0.jpg,20\n")}),
        "3,000,001 columns; at most",
    ),
    "table": ("imagefolder", "metadata.csv", lambda: wide("file_name,age\n0.jpg,20"), "3,000,002 columns; at most"),
    "parquet table": ("imagefolder", "metadata.parquet", parquet_of_zeros, "like a decompression bomb"),
    "tar": (
        "webdataset",
        "a.tar",
        lambda: tar_of({f"{n}.bin": bytes(MANY // 50) for n in range(50)}),
        "like a decompression bomb",
    ),
    "pax header": (
        "webdataset",
        "a.tar",
        lambda: tar_of(PICTURES, long_header(tarfile.XHDTYPE)),
        "a header of 104,857,600",
    ),
    "long name": (
        "webdataset",
        "a.tar",
        lambda: tar_of(PICTURES, long_header(tarfile.GNUTYPE_LONGNAME), "w"),
        "a header of 104,857,600",
    ),
    "packed member": (
        "webdataset",
        "a.tar",
        lambda: tar_of({"0.jpg": b"", "0.json.gz": gzip.compress(bytes(MANY))}),
        "0.json.gz, which is compressed in the archive",
    ),
    "damaged tar": ("webdataset", "a.tar", lambda: tar_of(PICTURES)[:1000], "cannot be read as an archive"),
}


def load(kind: str, where: str, folder: Path, streaming: bool) -> Any:
    table = load_checked(kind, data_files={"train": [where]}, cache_dir=str(folder / "cache"), streaming=streaming)
    return table["train"]


def raised_by(load_it: Callable[[], object]) -> DatasetError:
    with pytest.raises((DatasetError, DatasetGenerationError)) as raised:
        load_it()
    error = raised.value if isinstance(raised.value, DatasetError) else raised.value.__cause__
    assert isinstance(error, DatasetError)
    return error


@pytest.mark.parametrize("name", BOMBS)
def test_an_archive_that_expands_is_refused_before_it_is_unpacked(name: str, tmp_path: Path):
    """`datasets` reads a set of the Hub with the same code as files that are named: as a download, or streamed."""
    kind, file, make, message = BOMBS[name]
    path = tmp_path / file
    path.write_bytes(make())
    address = f"memory://{tmp_path.name}/{file}"
    with fsspec.open(address, "wb") as opened:
        opened.write(path.read_bytes())
    tracemalloc.start()
    try:
        assert message in str(raised_by(lambda: load(kind, str(path), tmp_path, streaming=False)))
        if kind == "webdataset" or not file.endswith(".zip"):  # no picture in a .zip is read from a stream
            for where in (str(path), address):
                assert message in str(raised_by(lambda at=where: list(load(kind, at, tmp_path, streaming=True))))
        # of a tar `datasets` keeps the rows before the limit, until it has a hundred to write
        assert tracemalloc.get_traced_memory()[1] < (2 * MANY if name == "tar" else PEAK)
    finally:
        tracemalloc.stop()
    written = sum(one.stat().st_size for one in (tmp_path / "cache").rglob("*") if one.is_file())
    assert written < MANY // 10


@pytest.mark.parametrize(
    ("kind", "file", "content"),
    [
        ("imagefolder", "a.zip", zip_of({**PICTURES, "metadata.csv": b"file_name,age\n0.jpg,20\n1.jpg,30\n"})),
        ("webdataset", "a.tar", tar_of(PICTURES)),
        ("webdataset", "b.tar", tar_of(PICTURES, mode="w")),
    ],
)
def test_an_honest_archive_is_read(kind: str, file: str, content: bytes, tmp_path: Path):
    path = tmp_path / file
    path.write_bytes(content)
    count = 2 if kind == "imagefolder" else 4
    for streaming in (False, True):
        rows = list(load(kind, str(path), tmp_path, streaming))
        assert len(rows) == count
        if kind == "webdataset":
            assert [
                load_rgb(row["jpg"]["bytes"] if isinstance(row["jpg"], dict) else row["jpg"]) is not None
                for row in rows
            ]
