"""What becomes of every picture: its hash, its group, its labels, and whether it is kept or why not."""

import io
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import Dataset, Features, Value
from PIL import Image, ImageOps

from trainer.duplicates import grey_thumbnail, group_duplicates, pixel_hash
from trainer.labels import UNKNOWN


CLEANING_VERSION = 1  # part of the cache key: raise it when the same pictures get other hashes, thumbnails or groups

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
    """Decode {"bytes", "path"} as `datasets` does (EXIF orientation honoured), but raise on what Pillow only warns about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        source = image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])
        with Image.open(source) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")


def fingerprint(image: dict | None, version: int) -> dict:
    """Hash, thumbnail and number of pixels of one picture; `undecodable` says why there are none."""
    if image is None:
        return {"pixel_hash": "", "thumbnail": b"", "pixels": 0, "undecodable": ""}
    try:
        picture = open_picture(image)
    # Pillow's decoders raise many things on damaged files (OSError, ValueError, SyntaxError, struct.error...), and one
    # damaged file must not end the run: it is listed with its reason.
    except Exception as error:
        return {"pixel_hash": "", "thumbnail": b"", "pixels": 0, "undecodable": f"undecodable: {error}"}
    return {
        "pixel_hash": pixel_hash(picture),
        "thumbnail": grey_thumbnail(picture).tobytes(),
        "pixels": picture.width * picture.height,
        "undecodable": "",
    }


def group_pictures(pictures: Dataset, num_proc: int | None = None) -> pd.DataFrame:
    """One row a picture of `trainer.sources`: its labels, `problem`, pixel_hash, pixels and `group` ("" without pixels).

    Cached by `datasets`: neither decoding nor searching is done twice for the same files.
    """
    fingerprints = pictures.select_columns(["image"]).map(
        fingerprint,
        input_columns=["image"],
        remove_columns=["image"],
        features=_FINGERPRINT_FEATURES,
        fn_kwargs={"version": CLEANING_VERSION},
        num_proc=num_proc,
        desc="Reading pictures",
    )
    groups = fingerprints.with_format("arrow").map(
        _group_table,
        batched=True,
        batch_size=None,
        remove_columns=fingerprints.column_names,
        fn_kwargs={"version": CLEANING_VERSION},
        desc="Finding duplicates",
    )
    table = pictures.remove_columns(["image"]).to_pandas()
    found = groups.with_format("pandas")[:]
    table["problem"] = table["problem"].where(found["undecodable"] == "", found["undecodable"])
    return table.join(found[["pixel_hash", "pixels", "group"]])


def _group_table(table: pa.Table, version: int) -> pa.Table:
    decoded = np.flatnonzero(np.asarray(table["pixel_hash"]) != "")
    thumbnails = table["thumbnail"].combine_chunks()
    groups = np.full(len(table), "", dtype=object)
    groups[decoded] = group_duplicates(
        np.asarray(table["pixel_hash"])[decoded].tolist(), _Thumbnails(thumbnails, decoded)
    )
    return table.drop_columns(["thumbnail"]).append_column("group", pa.array(groups.tolist(), pa.string()))


class _Thumbnails:
    """Rows of an Arrow column, read where they lie on the disk when they are asked for."""

    def __init__(self, column: pa.Array, rows: np.ndarray):
        self.column, self.rows = column, rows

    def __getitem__(self, index: int) -> memoryview:
        return memoryview(self.column[int(self.rows[index])].as_buffer())


def settle_groups(table: pd.DataFrame, max_age_spread: int) -> pd.DataFrame:
    """Keep one picture a group, with the labels its copies agree on.

    The rule: copies whose known genders differ, or whose ages are more than `max_age_spread` years apart, are all dropped, since
    nothing says which label is right. Else the copy with most pixels stays, with the median of the copies' ages (rounded
    half up; the common years of age ranges), their gender, and their race if they agree on it.

    Returns the table with `kept` and `reason` ("" where kept) and the settled labels.
    """
    table = table.assign(kept=table["problem"] == "", reason=table["problem"])
    usable = table[table["kept"]]
    # content decides which copy stays; only copies that agree in everything else are told apart by their names
    usable = usable.sort_values(
        ["group", "pixels", "pixel_hash", *LABELS, "file_name"], ascending=[True, False] + [True] * 7
    )
    for _, copies in usable[usable.duplicated("group", keep=False)].groupby("group", sort=False):
        labels, reason = _settle(copies, max_age_spread)
        first = copies.index[0]
        if reason:
            table.loc[copies.index, "reason"] = reason
        else:
            table.loc[first, list(labels)] = list(labels.values())
            table.loc[copies.index[1:], "reason"] = f"copy: of {table.at[first, 'file_name']}"
    return table.assign(kept=table["reason"] == "")


def _settle(copies: pd.DataFrame, max_age_spread: int) -> tuple[dict, str]:
    """(labels, "") or ({}, reason)."""
    genders = copies["gender"][copies["gender"] != UNKNOWN].unique()
    if len(genders) > 1:
        return {}, "contradicting genders: among copies of one picture"
    labels = {"gender": genders[0] if len(genders) else UNKNOWN}
    ages = copies["age"][copies["age"] != UNKNOWN]
    ranges = copies[(copies["age_low"] != UNKNOWN)]
    if len(ages):
        if ages.max() - ages.min() > max_age_spread:
            return {}, f"contradicting ages: {ages.min()} to {ages.max()} among copies of one picture"
        age = int(np.floor(ages.median() + 0.5))
        labels |= {"age": age, "age_low": age, "age_high": age}
    elif len(ranges):
        low, high = ranges["age_low"].max(), ranges["age_high"].min()
        if low > high:
            return {}, "contradicting ages: ranges of copies of one picture do not meet"
        labels |= {"age_low": low, "age_high": high}
    races = copies["race"][copies["race"] != "unknown"].unique()
    labels["race"] = races[0] if len(races) == 1 else "unknown"
    return labels, ""
