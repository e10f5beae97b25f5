"""Sets that scripts.prepare_data wrote, as a folder or on the Hub: their splits are taken as they are."""

import math
from pathlib import Path

import datasets
from datasets import DatasetDict, IterableDatasetDict, concatenate_datasets, load_dataset

from trainer.data_arguments import DataArguments
from trainer.manifest import shuffled_rows, split_faces
from trainer.sources import caching_explained
from trainer.splits import SPLITS
from trainer.streaming import limit_stream


def load_prepared_folder(folder: Path, args: DataArguments) -> DatasetDict | IterableDatasetDict | None:
    """The splits of a folder that scripts.prepare_data wrote; None for any other source."""
    files = {split: sorted(map(str, folder.glob(f"data/{split}-*.parquet"))) for split in SPLITS}
    if not all(files.values()):
        return None
    with caching_explained(args.dataset, args.cache_dir):
        return load_dataset("parquet", data_files=files, cache_dir=args.cache_dir, streaming=args.streaming)


def is_prepared(source: DatasetDict | IterableDatasetDict) -> bool:
    columns = {"image", "age", "gender", "race", "file_name", "group"}
    return set(source) == set(SPLITS) and columns <= set(source["train"].column_names or ())


def use_prepared(
    prepared: DatasetDict | IterableDatasetDict, args: DataArguments, seed: int
) -> DatasetDict | IterableDatasetDict:
    """A prepared set as it is, cut to `args.max_samples`, or split anew into folds."""
    if args.manifest or args.split_by != "group":
        raise ValueError(
            f"{args.dataset} is prepared: its pictures are chosen and split already. Prepare the source again with "
            "another manifest or split_by, or give the source itself."
        )
    if args.streaming:
        # an iterator over shuffled parquet files sleeps this long whenever it is closed: 5 seconds unless told otherwise
        datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
        if args.folds:
            raise ValueError(
                "Folds need all labels at once: leave out streaming, or prepare the set once for each fold."
            )
        return limit_stream(prepared, args)
    if args.folds:
        faces = concatenate_datasets([prepared[split] for split in SPLITS])
        table = faces.remove_columns(["image"]).to_pandas().assign(kept=True)
        if "age_low" not in table:
            table = table.assign(age_low=table["age"], age_high=table["age"])
        if not table["group"].is_unique:
            raise ValueError(f"{args.dataset} was prepared with copies: folds need one that was split by group.")
        table["split"] = split_faces(table, args, seed)
        prepared = DatasetDict({split: faces.select(shuffled_rows(table, split, seed)) for split in SPLITS})
    if args.max_samples:
        share = min(1.0, args.max_samples / sum(map(len, prepared.values())))
        prepared = DatasetDict(
            {split: rows.select(range(math.ceil(len(rows) * share))) for split, rows in prepared.items()}
        )
    return prepared
