"""A data source as one set, every usable picture of it: to measure on a set that nothing was trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import DatasetDict, concatenate_datasets

from trainer.alignment import align_faces
from trainer.data import DataArguments, label_pictures, load_faces, read_pictures
from trainer.manifest import build_manifest
from trainer.prepared import is_prepared, load_prepared_folder
from trainer.sources import load_hub


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
