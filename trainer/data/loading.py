"""A data source as one set, every usable picture of it: to measure on a set that nothing was trained on."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

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
    load_dataset,
)

from trainer.data.alignment import align_faces
from trainer.data.arguments import DataArguments
from trainer.data.cleaning import fingerprint
from trainer.data.manifest import build_manifest, face_features, read_manifest, shuffled_rows, split_faces
from trainer.data.sources import caching_explained, label_rows, load_hub, read_files, stream_files
from trainer.data.splits import SPLITS


def stream_faces(args: DataArguments, source: IterableDatasetDict | None) -> IterableDatasetDict:
    """The splits of a manifest, read from the source as it comes."""
    if not args.manifest:
        raise ValueError(
            f"{args.dataset} cannot be streamed as it is: finding its duplicates needs all of it. Run "
            "`python -m scripts.prepare_data` once and stream what it writes, or give its manifest.csv with manifest."
        )
    manifest = read_manifest(args.manifest)
    if source is None:
        rows = stream_files(Path(args.dataset).expanduser(), args.columns)
    else:
        rows = label_rows(concatenate_datasets(list(source.values())), args.columns, args.dataset)
    kept = manifest[manifest["kept"]]
    if not kept["pixel_hash"].is_unique:
        raise ValueError(f"{args.manifest} keeps identical pictures, which a stream cannot tell apart: split by group.")
    features = face_features(manifest)
    splits = IterableDatasetDict()
    for split in SPLITS:
        faces = kept[kept["split"] == split].set_index("pixel_hash")[list(features)]
        splits[split] = IterableDataset.from_generator(
            _matching_rows,
            features=Features({"image": Image(), **features}),
            gen_kwargs={"rows": rows, "faces": faces.to_dict("index"), "manifest": args.manifest},
        )
    return limit_stream(splits, args)


def _matching_rows(rows: IterableDataset, faces: dict[str, dict], manifest: str) -> Iterator[dict]:
    """The pictures whose pixels are among `faces`, each once, with the labels given there."""
    missing = dict(faces)
    for row in rows:
        face = missing.pop(fingerprint(row["image"])["pixel_hash"], None)
        if face:
            yield {"image": row["image"], **face}
        if not missing:
            return
    raise ValueError(f"{len(missing)} of the {len(faces)} pictures that {manifest} has in this split were not found.")


def limit_stream(splits: IterableDatasetDict, args: DataArguments) -> IterableDatasetDict:
    if not args.max_samples:
        return splits
    shares = {"validation": args.validation_share, "test": args.test_share}
    shares["train"] = 1 - sum(shares.values())
    return IterableDatasetDict(
        {split: rows.take(math.ceil(shares[split] * args.max_samples)) for split, rows in splits.items()}
    )


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


__all__ = ["DataArguments", "label_pictures", "load_faces", "read_pictures", "select_splits"]


def load_faces(args: DataArguments, *, seed: int) -> DatasetDict | IterableDatasetDict:
    """Splits train, validation and test, cleaned and grouped: the same for the same pictures and seed, wherever they lie.

    Columns: `image`; `age` in whole years and `gender` (0 male, 1 female), -100 where unknown; `race` ("unknown" or one
    of trainer.data.labels.RACES; for evaluation only); `file_name`; `group`. Where any age is a range, also `age_low` and
    `age_high`, years included, -100 where unknown. The rows lie in an order that content and seed decide.

    With `args.align`, `image` is the aligned crop of the face (see trainer.data.alignment).

    A prepared set keeps the splits, labels and order it was prepared with, unless `args.folds` asks for others.

    Raises:
        ValueError: no such source, nothing labelled in it, too much of it unusable, or too little to split.
    """
    faces = _load_splits(args, seed)
    return align_faces(faces, args.num_proc) if args.align else faces


def _load_splits(args: DataArguments, seed: int) -> DatasetDict | IterableDatasetDict:
    path = Path(args.dataset).expanduser()
    if path.exists():
        prepared = load_prepared_folder(path, args)
        source = None
    else:
        source = load_hub(args)
        prepared = source if is_prepared(source) else None
    if prepared is not None:
        return use_prepared(prepared, args, seed)
    if args.streaming:
        return stream_faces(args, source)
    pictures = read_pictures(args, source)
    return select_splits(pictures, build_manifest(pictures, args, seed), args, seed)


def read_pictures(args: DataArguments, source: DatasetDict | None = None) -> Dataset:
    """The source as it is: every file or row with its labels and problems, nothing decoded.

    Args:
        source: what `load_hub` gave, if it was called already. Its own splits are joined, since they may leak.
    """
    path = Path(args.dataset).expanduser()
    if path.exists():
        return read_files(path, args.columns, args.cache_dir)
    source = source or load_hub(args)
    return label_rows(concatenate_datasets(list(source.values())), args.columns, args.dataset)


def select_splits(pictures: Dataset, manifest: pd.DataFrame, args: DataArguments, seed: int) -> DatasetDict:
    """The kept pictures with the manifest's labels, as `load_faces` returns them."""
    kept = manifest["kept"]
    faces = label_pictures(pictures, manifest)
    splits = DatasetDict()
    for split in SPLITS:
        rows = shuffled_rows(manifest, split, seed)
        if not rows:
            raise ValueError(
                f"{kept.sum()} usable faces in {args.dataset} are too few: the {split} split is empty. "
                "Add pictures, or change the shares."
            )
        share = args.max_samples / kept.sum() if args.max_samples else 1.0
        splits[split] = faces.select(rows[: math.ceil(len(rows) * min(share, 1.0))])
    return splits


def label_pictures(pictures: Dataset, manifest: pd.DataFrame) -> Dataset:
    """Every row of `pictures` with the manifest's labels, kept or not."""
    features = face_features(manifest)
    labels = Dataset.from_pandas(manifest[list(features)], features=Features(features), preserve_index=False)
    return concatenate_datasets([pictures.select_columns(["image"]), labels], axis=1).cast_column("image", Image())


def load_whole_set(args: DataArguments) -> DatasetDict:
    """One split, "all", with the columns of `load_faces` in the source's order; copies stay in, and share their `group`.

    Of a prepared set, and of one with a manifest, the pictures that were kept; streams are read as a whole. With
    `args.max_samples`, about that many of them.

    Raises:
        ValueError: no such source, nothing labelled in it, or too much of it unusable.
    """
    args = replace(args, streaming=False)
    path = Path(args.dataset).expanduser()
    source = None if path.exists() else load_hub(args)
    prepared = load_prepared_folder(path, args) is not None if source is None else is_prepared(source)
    if prepared or args.manifest:
        return DatasetDict(all=concatenate_datasets(list(load_faces(args, seed=0).values())))
    pictures = read_pictures(args, source)
    manifest = build_manifest(pictures, replace(args, split_by="picture"), seed=0)
    kept = manifest.index[manifest["kept"]]
    if args.max_samples:  # from all over the source, which may be in the order of the ages
        kept = kept[np.linspace(0, len(kept) - 1, min(args.max_samples, len(kept)), dtype=int)]
    whole = DatasetDict(all=label_pictures(pictures, manifest).select(kept))
    return align_faces(whole, args.num_proc) if args.align else whole
