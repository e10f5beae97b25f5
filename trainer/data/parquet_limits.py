"""Refuse a parquet file that claims more rows or values than its bytes can hold, before any of them is read."""

from pathlib import Path

import pyarrow.parquet as pq

from trainer.data import DatasetError


MAX_EXPANSION = 200  # as for archives: pictures hardly compress
SPARE_BYTES = 64 * 2**20


def check_parquet(path: Path, metadata: pq.FileMetaData) -> None:
    """
    Raises:
        DatasetError: the file claims to hold more.
    """
    size = path.stat().st_size
    if metadata.num_rows > size:
        raise DatasetError(f"{path} claims {metadata.num_rows:,} rows in {size:,} bytes: it is damaged.")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    expanded = sum(
        group.column(index).total_uncompressed_size for group in groups for index in range(group.num_columns)
    )
    if expanded > size * MAX_EXPANSION + SPARE_BYTES:
        raise DatasetError(
            f"{path} expands from {size:,} to {expanded:,} bytes, like a decompression bomb. If you trust it, write it again "
            "without compression."
        )
