"""UTKFace or any labelled faces -> a DatasetDict with splits that do not leak."""

import math
from pathlib import Path

import pandas as pd
from datasets import Dataset, DatasetDict, Features, Image, IterableDatasetDict, concatenate_datasets

from trainer.alignment import align_faces
from trainer.data_arguments import DataArguments
from trainer.manifest import build_manifest, face_features, shuffled_rows
from trainer.prepared import is_prepared, load_prepared_folder, use_prepared
from trainer.sources import label_rows, load_hub, read_files
from trainer.splits import SPLITS
from trainer.streaming import stream_faces


__all__ = ["DataArguments", "label_pictures", "load_faces", "read_pictures", "select_splits"]


def load_faces(args: DataArguments, *, seed: int) -> DatasetDict | IterableDatasetDict:
    """Splits train, validation and test, cleaned and grouped: the same for the same pictures and seed, wherever they lie.

    Columns: `image`; `age` in whole years and `gender` (0 male, 1 female), -100 where unknown; `race` ("unknown" or one
    of trainer.labels.RACES; for evaluation only); `file_name`; `group`. Where any age is a range, also `age_low` and
    `age_high`, years included, -100 where unknown. The rows lie in an order that content and seed decide.

    With `args.align`, `image` is the aligned crop of the face (see trainer.alignment).

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
