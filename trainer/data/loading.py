"""Load any source of labelled faces as train, validation and test splits that share no picture.

A prepared set has its splits already; a stream gets them from a manifest; any other source is read, cleaned and split here.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    concatenate_datasets,
)

from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.cleaning import fingerprint
from trainer.data.manifest import build_manifest, face_features, read_manifest
from trainer.data.rows import align_faces
from trainer.data.sources import is_prepared, open_table, read_pictures
from trainer.data.splits import SPLITS, shuffled_rows, split_faces


def load_faces(args: DataArguments, *, seed: int) -> DatasetDict | IterableDatasetDict:
    """Splits train, validation and test, cleaned and without leaks: the same for the same pictures and seed.

    Columns: `image`, undecoded ({"bytes", "path"}; `load_row_picture` decodes it), the aligned crop with `args.align`;
    `age` in whole years and `gender` (0 male, 1 female), -100 where unknown; `race` ("unknown" or one of
    trainer.data.labels.RACES; for evaluation only); `file_name`; `group` of duplicates. If any age is a range, also `age_low`
    and `age_high`, years included, -100 where unknown. Content and seed decide the order of the rows.

    A prepared set keeps its splits, labels and order, unless `args.folds` asks for others.

    Raises:
        DatasetError: no such source, nothing labelled in it, too much of it unusable, or too little to split.
    """
    table = open_table(args)
    if table is not None and is_prepared(table):
        faces = _prepared_splits(table, args, seed)
    elif args.streaming and not args.manifest:
        raise DatasetError(
            f"{args.dataset} cannot be streamed as it is: finding its duplicates needs all of it. Run "
            "`python -m scripts.prepare_data` once and stream what it writes, or give its manifest.csv with manifest."
        )
    else:
        pictures = read_pictures(args, table)
        if args.streaming:
            faces = _stream_splits(pictures, args)
        else:
            manifest = build_manifest(pictures, args, seed)
            faces = select_splits(pictures, manifest, args, seed)
    if args.max_samples:
        faces = _limit(faces, args.max_samples, args)
    return align_faces(faces, args.num_proc) if args.align else faces


def load_whole_set(args: DataArguments) -> DatasetDict:
    """One split, "all", with the columns of `load_faces` in the source's order, to measure a model on.

    Duplicates stay in and share their `group`. A prepared set, and one with a manifest, has the pictures that were kept.
    With `args.max_samples`, about that many pictures. A stream is read as a whole.

    Raises:
        DatasetError: no such source, nothing labelled in it, or too much of it unusable.
    """
    args = replace(args, streaming=False)
    table = open_table(args)
    if args.manifest or (table is not None and is_prepared(table)):
        return DatasetDict(all=concatenate_datasets(list(load_faces(args, seed=0).values())))
    pictures = read_pictures(args, table)
    manifest = build_manifest(pictures, replace(args, split_by="picture"), seed=0)
    kept = manifest.index[manifest["kept"]]
    if args.max_samples:  # evenly from the whole source, which may be sorted by age
        kept = kept[np.linspace(0, len(kept) - 1, min(args.max_samples, len(kept)), dtype=int)]
    whole = DatasetDict(all=label_pictures(pictures, manifest).select(kept))
    return align_faces(whole, args.num_proc) if args.align else whole


def select_splits(pictures: Dataset, manifest: pd.DataFrame, args: DataArguments, seed: int) -> DatasetDict:
    """The pictures that the manifest keeps, with its labels, as `load_faces` returns them.

    Raises:
        DatasetError: a split would be empty.
    """
    faces = label_pictures(pictures, manifest)
    splits = DatasetDict()
    for split in SPLITS:
        rows = shuffled_rows(manifest, split, seed)
        if not rows:
            raise DatasetError(
                f"{manifest['kept'].sum()} usable faces in {args.dataset} are too few: the {split} split is empty. "
                "Add pictures, or change validation_fraction and test_fraction."
            )
        splits[split] = faces.select(rows)
    return splits


def label_pictures(pictures: Dataset, manifest: pd.DataFrame) -> Dataset:
    """Every row of `pictures` with the manifest's labels, kept or not."""
    features = face_features(manifest)
    labels = Dataset.from_pandas(manifest[list(features)], features=Features(features), preserve_index=False)
    return concatenate_datasets([pictures.select_columns(["image"]), labels], axis=1)


def _prepared_splits(
    prepared: DatasetDict | IterableDatasetDict, args: DataArguments, seed: int
) -> DatasetDict | IterableDatasetDict:
    """A prepared set as it is, or split anew into folds."""
    if args.manifest or args.split_by != "group":
        raise DatasetError(
            f"{args.dataset} is prepared: its pictures are chosen and split already. Prepare the source again with "
            "another manifest or split_by, or give the source itself."
        )
    if isinstance(prepared, IterableDatasetDict):
        if args.folds:
            raise DatasetError(
                "Folds need all labels at once: leave out streaming, or prepare the set once for each fold."
            )
    elif args.folds:
        faces = concatenate_datasets([prepared[split] for split in SPLITS])
        labels = faces.remove_columns(["image"]).to_pandas().assign(kept=True)
        if "age_low" not in labels:
            labels = labels.assign(age_low=labels["age"], age_high=labels["age"])
        if not labels["group"].is_unique:
            raise DatasetError(f"{args.dataset} was prepared with duplicates: folds need one that was split by group.")
        labels["split"] = split_faces(labels, args, seed)
        prepared = DatasetDict({split: faces.select(shuffled_rows(labels, split, seed)) for split in SPLITS})
    return prepared


def _stream_splits(pictures: IterableDataset, args: DataArguments) -> IterableDatasetDict:
    """The splits of `args.manifest`, in the order of the source; a picture is identified by its pixels."""
    assert args.manifest
    manifest = read_manifest(args.manifest)
    kept = manifest[manifest["kept"]]
    if not kept["pixel_hash"].is_unique:
        raise DatasetError(
            f"{args.manifest} keeps identical pictures, and a stream identifies a picture by its pixels: prepare the set "
            "with split_by group."
        )
    features = face_features(manifest)
    splits = IterableDatasetDict()
    for split in SPLITS:
        faces = kept[kept["split"] == split].set_index("pixel_hash")[list(features)]
        splits[split] = IterableDataset.from_generator(
            _matching_rows,
            features=Features({"image": Image(decode=False), **features}),
            gen_kwargs={"rows": pictures, "faces": faces.to_dict("index"), "manifest": args.manifest},
        )
    return splits


def _matching_rows(rows: IterableDataset, faces: dict[str, dict[str, Any]], manifest: str) -> Iterator[dict[str, Any]]:
    """The pictures whose pixels are among `faces`, each once, with the labels given there."""
    missing = dict(faces)
    for row in rows:
        face = missing.pop(fingerprint(row["image"])["pixel_hash"], None)
        if face:
            yield {"image": row["image"], **face}
        if not missing:
            return
    raise DatasetError(
        f"{len(missing)} of the {len(faces)} pictures that {manifest} has in this split were not found: expected the source "
        "that the manifest was made from."
    )


def _limit(
    faces: DatasetDict | IterableDatasetDict, most: int, args: DataArguments
) -> DatasetDict | IterableDatasetDict:
    """The first rows of each split, about `most` together, and the same fraction of each."""
    if isinstance(faces, IterableDatasetDict):  # of unknown size
        fractions = {"validation": args.validation_fraction, "test": args.test_fraction}
        fractions["train"] = 1 - sum(fractions.values())
        return IterableDatasetDict(
            {split: rows.take(math.ceil(fractions[split] * most)) for split, rows in faces.items()}
        )
    fraction = min(1.0, most / sum(map(len, faces.values())))
    return DatasetDict({split: rows.select(range(math.ceil(len(rows) * fraction))) for split, rows in faces.items()})


def stream_without_pauses() -> None:
    """For the whole process: do not sleep 5 seconds whenever an iterator over a stream of several parquet files ends.

    `datasets` waits there for Arrow's threads, which may outlive the iterator: https://github.com/apache/arrow/issues/45214.
    """
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
