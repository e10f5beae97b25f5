"""Splits of a manifest, picked from a stream of pictures by what they show, in memory that the manifest bounds."""

import math
from collections.abc import Iterator
from pathlib import Path

from datasets import Features, Image, IterableDataset, IterableDatasetDict, concatenate_datasets

from trainer.cleaning import fingerprint
from trainer.data_arguments import DataArguments
from trainer.manifest import face_features, read_manifest
from trainer.sources import label_rows, stream_files
from trainer.splits import SPLITS


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
