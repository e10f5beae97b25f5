"""Find out what the pictures of a source show: their hashes, their groups of duplicates, and one label for each group."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, Features, Value
from datasets.fingerprint import Hasher
from PIL import Image

from model.image_loading import load_rgb
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.duplicates import Spread, grey_thumbnail, group_duplicates, pixel_hash
from trainer.data.labels import UNKNOWN, UNKNOWN_RACE
from trainer.data.picture_files import HIDDEN, NOT_A_PICTURE


# Part of the cache key. `datasets` does not see changes inside our functions: raise it when the same pictures get other
# hashes, thumbnails or groups.
CLEANING_VERSION = 5

ROWS_A_CALL = 32  # of a cluster

LABELS = ["age", "age_low", "age_high", "gender", "race"]
SOURCE_LABELS = [f"source_{name}" for name in LABELS]  # as the source gives them
_FINGERPRINT_FEATURES = Features(
    {
        "pixel_hash": Value("string"),
        "thumbnail": Value("binary"),
        "pixels": Value("int64"),
        "undecodable": Value("string"),
    }
)


def fingerprint_pictures(pictures: Dataset, num_proc: int | None = None, spread: Spread | None = None) -> Dataset:
    """`fingerprint` of every row of `trainer.data.sources`. `datasets` caches it, so each picture is decoded once.

    Args:
        num_proc: processes of this machine that decode.
        spread: decodes on the machines of a cluster in their place, see `trainer.data.duplicates.Spread`.
    """
    images = pictures.select_columns(["image"])
    options: dict[str, Any] = {
        "remove_columns": ["image"],
        "features": _FINGERPRINT_FEATURES,
        "new_fingerprint": _cache_key(
            images, "fingerprints"
        ),  # either way, so that each finds what the other has cached
    }
    if spread is None:
        return images.map(fingerprint, input_columns=["image"], num_proc=num_proc, desc="Reading pictures", **options)
    starts = range(0, len(images), ROWS_A_CALL)
    calls = spread(_fingerprint_all, (images[start : start + ROWS_A_CALL]["image"] for start in starts))

    def take_fingerprints(indices: list[int]) -> dict[str, list[Any]]:
        rows = next(calls)
        return {name: [row[name] for row in rows] for name in _FINGERPRINT_FEATURES}

    return images.map(
        take_fingerprints,
        input_columns=[],
        with_indices=True,
        batched=True,
        batch_size=ROWS_A_CALL,
        desc="Reading pictures on the cluster",
        **options,
    )


def _fingerprint_all(images: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return [fingerprint(image) for image in images]


def _cache_key(dataset: Dataset, what: str) -> str:
    """In place of a hash of the function, which may call a cluster: `CLEANING_VERSION` stands for it."""
    return Hasher.hash((dataset._fingerprint, what, CLEANING_VERSION))


def fingerprint(image: dict[str, Any] | None) -> dict[str, Any]:
    """Hash, thumbnail and number of pixels of one undecoded picture; `undecodable` says why there are none."""
    nothing = {"pixel_hash": "", "thumbnail": b"", "pixels": 0, "undecodable": ""}
    if image is None:
        return nothing
    try:
        picture = open_picture(image)
    # Pillow's decoders raise many kinds of errors on damaged files (OSError, ValueError, SyntaxError, struct.error...).
    # One damaged file must not end the run: it is listed with its reason.
    except Exception as error:
        return nothing | {"undecodable": f"undecodable: {error}"}
    return {
        "pixel_hash": pixel_hash(picture),
        "thumbnail": grey_thumbnail(picture).tobytes(),
        "pixels": picture.width * picture.height,
        "undecodable": "",
    }


def open_picture(image: dict[str, Any]) -> Image.Image:
    """Decode {"bytes", "path"} as the pipeline does, and refuse what the pipeline refuses."""
    return Image.fromarray(load_rgb(image["path"] if image["bytes"] is None else image["bytes"]))


def check_usable(table: pd.DataFrame, args: DataArguments) -> None:
    """Raise DatasetError if more than `args.max_unusable_fraction` of the pictures have a problem.

    Files that are not pictures, or hidden, do not count.
    """
    pictures = table[~table["problem"].isin([NOT_A_PICTURE, HIDDEN])]
    failed = pictures[pictures["problem"] != ""]
    if len(failed) > args.max_unusable_fraction * len(pictures):
        reasons = Counter(failed["problem"].str.partition(":")[0]).most_common()
        raise DatasetError(
            f"{len(failed)} of the {len(pictures)} pictures of {args.dataset} cannot be used, more than the fraction of "
            f"{args.max_unusable_fraction} that max_unusable_fraction allows: "
            f"{', '.join(f'{count} {reason}' for reason, count in reasons)}. "
            f"First: {failed.iloc[0]['file_name']}: {failed.iloc[0]['problem']}."
        )


def find_groups(fingerprints: Dataset, spread: Spread | None = None) -> list[str]:
    """The group of duplicates of every row, "" where the picture has no pixels. Cached like the fingerprints."""
    groups = fingerprints.with_format("arrow").map(
        partial(_group_table, spread=spread),
        batched=True,
        batch_size=None,
        remove_columns=fingerprints.column_names,
        new_fingerprint=_cache_key(fingerprints, "groups"),
        desc="Finding duplicates",
    )
    return groups.with_format(None)["group"][:]


def _group_table(table: pa.Table, spread: Spread | None) -> pa.Table:
    hashes = np.asarray(table["pixel_hash"], dtype=object)
    decoded = np.flatnonzero(hashes != "")
    groups = np.full(len(table), "", dtype=object)
    thumbnails = table["thumbnail"]  # memory-mapped: only the one that is read is in memory
    groups[decoded] = group_duplicates(
        hashes[decoded].tolist(), lambda index: memoryview(thumbnails[int(decoded[index])].as_buffer()), spread
    )
    return pa.table({"group": pa.array(groups.tolist(), pa.string())})


def merge_duplicates(table: pd.DataFrame, max_age_spread: int) -> pd.DataFrame:
    """Keep one picture of each group of duplicates, with labels that all of the group support.

    A group whose known genders differ, or whose ages are more than `max_age_spread` years apart, is dropped as a whole:
    nothing says which label is right. Of any other group the picture with most pixels stays. It gets the median age (half
    a year rounds up; of age ranges, the years that all of them share), and the race if the group agrees on it.

    Args:
        table: one row a picture, with the columns LABELS, file_name, pixel_hash, pixels, group and problem.
        max_age_spread: in years.

    Returns:
        The table with merged LABELS and a new column `reason`: why a row is dropped, "" if it is kept.
    """
    usable = table[table["problem"] == ""]
    # content decides which picture stays; the file name decides between rows that agree in everything else
    order = ["group", "pixels", "pixel_hash", *LABELS, "file_name"]
    usable = usable.sort_values(order, ascending=[name != "pixels" for name in order])
    merged: dict[Any, dict[str, Any]] = {}  # index of a kept row -> its labels
    reasons: dict[Any, str] = {}  # index of a dropped row -> why
    for _, group in usable[usable.duplicated("group", keep=False)].groupby("group", sort=False):
        labels, reason = _merge_labels(group, max_age_spread)
        first = group.index[0]
        if reason:
            reasons |= dict.fromkeys(group.index, reason)
        else:
            merged[first] = group.loc[first, LABELS].to_dict() | labels
            reasons |= dict.fromkeys(group.index[1:], f"copy: of {group.at[first, 'file_name']}")
    table = table.assign(reason=table["problem"])
    table.loc[list(reasons), "reason"] = list(reasons.values())
    for name in LABELS:
        values = {row: labels[name] for row, labels in merged.items()}
        table.loc[list(values), name] = pd.Series(values, dtype=table[name].dtype)
    return table


def _merge_labels(group: pd.DataFrame, max_age_spread: int) -> tuple[dict[str, Any], str]:
    """(labels, "") for the picture that a group shows, or ({}, why its labels contradict each other)."""
    genders = group["gender"][group["gender"] != UNKNOWN].unique()
    if len(genders) > 1:
        return {}, "contradicting genders: among near-duplicates"
    races = group["race"][group["race"] != UNKNOWN_RACE].unique()
    labels = {
        "gender": genders[0] if len(genders) else UNKNOWN,
        "race": races[0] if len(races) == 1 else UNKNOWN_RACE,
    }
    ages = group["age"][group["age"] != UNKNOWN]
    ranges = group[group["age_low"] != UNKNOWN]
    if len(ages):
        if ages.max() - ages.min() > max_age_spread:
            return {}, f"contradicting ages: {ages.min()} to {ages.max()} among near-duplicates"
        age = int(np.floor(ages.median() + 0.5))
        labels |= {"age": age, "age_low": age, "age_high": age}
    elif len(ranges):
        low, high = ranges["age_low"].max(), ranges["age_high"].min()
        if low > high:
            return {}, "contradicting ages: age ranges of near-duplicates do not meet"
        labels |= {"age_low": low, "age_high": high}
    return labels, ""
