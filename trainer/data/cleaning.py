"""What the pictures show: their hashes, their groups of copies, and the labels that the copies agree on."""

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, Features, Value
from PIL import Image

from model.image_loading import load_rgb
from trainer.data.duplicates import grey_thumbnail, group_duplicates, pixel_hash
from trainer.data.labels import UNKNOWN, UNKNOWN_RACE


CLEANING_VERSION = 5  # part of the cache key: raise it when the same pictures get other hashes, thumbnails or groups

LABELS = ["age", "age_low", "age_high", "gender", "race"]
_FINGERPRINT_FEATURES = Features(
    {
        "pixel_hash": Value("string"),
        "thumbnail": Value("binary"),
        "pixels": Value("int64"),
        "undecodable": Value("string"),
    }
)


def open_picture(image: dict) -> Image.Image:
    """Decode {"bytes", "path"} as the pipeline does; it raises on what the pipeline would refuse."""
    return Image.fromarray(load_rgb(image["path"] if image["bytes"] is None else image["bytes"]))


def fingerprint(image: dict | None, version: int = CLEANING_VERSION) -> dict:
    """Hash, thumbnail and number of pixels of one picture; `undecodable` says why there are none."""
    nothing = {"pixel_hash": "", "thumbnail": b"", "pixels": 0, "undecodable": ""}
    if image is None:
        return nothing
    try:
        picture = open_picture(image)
    # Pillow's decoders raise many things on damaged files (OSError, ValueError, SyntaxError, struct.error...), and one
    # damaged file must not end the run: it is listed with its reason.
    except Exception as error:
        return nothing | {"undecodable": f"undecodable: {error}"}
    return {
        "pixel_hash": pixel_hash(picture),
        "thumbnail": grey_thumbnail(picture).tobytes(),
        "pixels": picture.width * picture.height,
        "undecodable": "",
    }


def fingerprint_pictures(pictures: Dataset, num_proc: int | None = None) -> Dataset:
    """`fingerprint` of every row of `trainer.data.sources`, cached by `datasets`: no picture is decoded twice for it."""
    return pictures.select_columns(["image"]).map(
        fingerprint,
        input_columns=["image"],
        remove_columns=["image"],
        features=_FINGERPRINT_FEATURES,
        fn_kwargs={"version": CLEANING_VERSION},
        num_proc=num_proc,
        desc="Reading pictures",
    )


def find_groups(fingerprints: Dataset) -> list[str]:
    """The group of every row, "" where there are no pixels. Cached like the fingerprints."""
    groups = fingerprints.with_format("arrow").map(
        _group_table,
        batched=True,
        batch_size=None,
        remove_columns=fingerprints.column_names,
        fn_kwargs={"version": CLEANING_VERSION},
        desc="Finding duplicates",
    )
    return groups.with_format(None)["group"][:]


def _group_table(table: pa.Table, version: int) -> pa.Table:
    hashes = np.asarray(table["pixel_hash"], dtype=object)
    decoded = np.flatnonzero(hashes != "")
    groups = np.full(len(table), "", dtype=object)
    thumbnails = table["thumbnail"]  # read where they lie on the disk, one by one
    groups[decoded] = group_duplicates(
        hashes[decoded].tolist(), lambda index: memoryview(thumbnails[int(decoded[index])].as_buffer())
    )
    return pa.table({"group": pa.array(groups.tolist(), pa.string())})


def settle_groups(table: pd.DataFrame, max_age_spread: int) -> pd.DataFrame:
    """Keep one picture of each group, with the labels that its copies agree on.

    The rule: copies whose known genders differ, or whose ages are more than `max_age_spread` years apart, are all
    dropped, since nothing says which label is right. Else the copy with most pixels stays, with the median of the
    copies' ages (half a year rounds up; of age ranges, the years they share), and with their race if they agree on it.

    Args:
        table: one row a picture with LABELS, file_name, pixel_hash, pixels, group and problem.

    Returns:
        The table with settled LABELS, and with `reason`: why a row is dropped, "" if it is kept.
    """
    usable = table[table["problem"] == ""]
    # content decides which copy stays; names only tell apart copies that agree in everything else
    order = ["group", "pixels", "pixel_hash", *LABELS, "file_name"]
    usable = usable.sort_values(order, ascending=[name != "pixels" for name in order])
    settled, reasons = {}, {}
    for _, copies in usable[usable.duplicated("group", keep=False)].groupby("group", sort=False):
        labels, reason = _settle(copies, max_age_spread)
        first = copies.index[0]
        if reason:
            reasons |= dict.fromkeys(copies.index, reason)
        else:
            settled[first] = copies.loc[first, LABELS].to_dict() | labels
            reasons |= dict.fromkeys(copies.index[1:], f"copy: of {copies.at[first, 'file_name']}")
    table = table.assign(reason=table["problem"])
    table.loc[list(reasons), "reason"] = list(reasons.values())
    for name in LABELS:
        values = {row: labels[name] for row, labels in settled.items()}
        table.loc[list(values), name] = pd.Series(values, dtype=table[name].dtype)
    return table


def _settle(copies: pd.DataFrame, max_age_spread: int) -> tuple[dict, str]:
    """(labels, "") of the one picture that all copies show, or ({}, why there are none)."""
    genders = copies["gender"][copies["gender"] != UNKNOWN].unique()
    if len(genders) > 1:
        return {}, "contradicting genders: among copies of one picture"
    races = copies["race"][copies["race"] != UNKNOWN_RACE].unique()
    labels = {
        "gender": genders[0] if len(genders) else UNKNOWN,
        "race": races[0] if len(races) == 1 else UNKNOWN_RACE,
    }
    ages = copies["age"][copies["age"] != UNKNOWN]
    ranges = copies[copies["age_low"] != UNKNOWN]
    if len(ages):
        if ages.max() - ages.min() > max_age_spread:
            return {}, f"contradicting ages: {ages.min()} to {ages.max()} among copies of one picture"
        age = int(np.floor(ages.median() + 0.5))
        labels |= {"age": age, "age_low": age, "age_high": age}
    elif len(ranges):
        low, high = ranges["age_low"].max(), ranges["age_high"].min()
        if low > high:
            return {}, "contradicting ages: age ranges of copies of one picture do not meet"
        labels |= {"age_low": low, "age_high": high}
    return labels, ""
