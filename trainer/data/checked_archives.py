"""Archives of a set that `datasets` unpacks, and the tables in them, with the limits of those that are named directly."""

import io
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DownloadConfig
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import ArchiveIterable, xopen

from trainer.data import DatasetError
from trainer.data.archives import check_zip, read_tar
from trainer.data.table_limits import MAX_TABLE_BYTES, check_columns, check_parquet_pages, read_at


# of members that WebDataset would unpack whole, whatever they become
PACKED_SUFFIXES = (".bz2", ".gz", ".lz4", ".xz", ".zst", ".npz")


CHUNK_BYTES = 2**20


def check_archives(builder: ImageFolder | WebDataset) -> None:
    """Let the builder look at each archive before it unpacks it, or, of a stream, as it reads it.

    The builder then raises `DatasetError` where an archive or table is damaged, or claims or becomes far more than its bytes.
    """
    changed: Any = builder
    changed._split_generators = partial(_split_generators, builder)
    if isinstance(builder, ImageFolder):
        changed._read_metadata = partial(_read_metadata, builder)


def _split_generators(builder: ImageFolder | WebDataset, manager: Any) -> Any:
    """In place of the builder's own. `manager`: of downloads, or of streams, which unpacks nothing to the disk."""
    extract = manager.extract

    def checked_extract(paths: list[str]) -> Any:
        for path in paths:
            check_zip(Path(path))
        return extract(paths)

    if not manager.is_streaming:
        manager.extract = checked_extract
    manager.iter_archive = lambda url: ArchiveIterable(_members, url, manager.download_config)
    return type(builder)._split_generators(builder, manager)


def _members(url: str, access: DownloadConfig) -> Iterator[tuple[str, io.BytesIO]]:
    """In place of `ArchiveIterable._iter_from_urlpath`: what cannot be used is left out, as there."""
    with open_anywhere(url, access, block_size=0) as file:
        for member in read_tar(url, file):
            path = PurePosixPath(member.name)
            if path.suffix.lower() in PACKED_SUFFIXES:
                raise DatasetError(
                    f"{url} holds {member.name}, which is compressed in the archive: unpack such files first."
                )
            if member.content is not None and not path.name.startswith((".", "__")):
                yield member.name, io.BytesIO(member.content)


def _read_metadata(builder: ImageFolder, file: str, metadata_ext: str = "") -> Iterable[pa.Table]:
    """In place of the builder's own."""
    access = DownloadConfig(token=builder.token, storage_options=builder.storage_options)
    with open_anywhere(file, access) as opened:
        content = bytearray()
        while chunk := opened.read(CHUNK_BYTES):  # asked for all at once, some files make room for all
            content += chunk
            if len(content) > MAX_TABLE_BYTES:
                raise DatasetError(f"{file} has more than {MAX_TABLE_BYTES:,} bytes, and no more of a table are read.")
    if metadata_ext == ".csv":
        check_columns(file, bytes(content), ",")
    elif metadata_ext == ".parquet":
        metadata = pq.read_metadata(io.BytesIO(content))
        check_parquet_pages(file, metadata, len(content), partial(read_at, io.BytesIO(content)))
    return type(builder)._read_metadata(builder, file, metadata_ext)


def open_anywhere(url: str, access: DownloadConfig, **options: Any) -> Any:
    """A file on the disk, or at any address."""
    return open(url, "rb") if os.path.exists(url) else xopen(url, "rb", download_config=access, **options)
