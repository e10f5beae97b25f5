"""The manifest: one row for every file of a source, with its hash, group, split and labels, and whether it is kept or why not.

Manifests are published with prepared sets and read back later, so the wording of a `reason` is part of the file format.
"""

import io
import logging
from collections import Counter
from pathlib import Path

import pandas as pd
from datasets import Dataset, Value

from model_card.output_files import ENCODING, read_cell, write_csv
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.cleaning import (
    LABELS,
    SOURCE_LABELS,
    check_usable,
    find_groups,
    fingerprint_pictures,
    merge_duplicates,
)
from trainer.data.duplicates import Spread
from trainer.data.labels import UNKNOWN
from trainer.data.picture_files import as_text
from trainer.data.rows import LABEL_FEATURES
from trainer.data.splits import SPLITS, duplicate_numbers, split_faces
from trainer.data.table_limits import check_columns, read_text_table


logger = logging.getLogger(__name__)

COLUMNS = ["file_name", "pixel_hash", "group", "split", "kept", "reason", *LABELS, *SOURCE_LABELS]


def build_manifest(pictures: Dataset, args: DataArguments, seed: int, spread: Spread | None = None) -> pd.DataFrame:
    """COLUMNS for every row of `pictures`, in its order; splits and labels come from `args.manifest` if that is given.

    LABELS are those to train with, SOURCE_LABELS those of the source. `reason` is "" for a picture that is kept, and
    otherwise begins with a word or two and a colon.

    Args:
        pictures: what `trainer.data.sources.read_pictures` returns.
        args: how to split, and what is too contradictory or unusable.
        seed: of the splits.
        spread: shares the reading and the search for duplicates out, see `trainer.data.duplicates.Spread`.

    Raises:
        DatasetError: too much of the source is unusable, or it is not the source of `args.manifest`.
    """
    fingerprints = fingerprint_pictures(pictures, args.num_proc, spread)
    table = pictures.remove_columns(["image"]).to_pandas()
    found = fingerprints.remove_columns(["thumbnail"]).to_pandas()
    table["problem"] = table["problem"].where(found["undecodable"] == "", found["undecodable"])
    table = table.join(found[["pixel_hash", "pixels"]])
    table[SOURCE_LABELS] = table[LABELS]
    check_usable(table, args)
    if not args.manifest:
        table["group"] = find_groups(fingerprints, spread)
        if args.split_by == "group":
            table = merge_duplicates(table, args.max_age_spread)
        else:
            table["reason"] = table["problem"]
        table = table.assign(kept=table["reason"] == "", split="")
        table.loc[table["kept"], "split"] = split_faces(table, args, seed)
        if args.split_by == "picture_purged":
            held_out = table.loc[table["split"].isin(["validation", "test"]), "group"]
            leaks = (table["split"] == "train") & table["group"].isin(held_out)
            table.loc[leaks, ["kept", "reason", "split"]] = [False, "copy: of a picture in validation or test", ""]
    else:
        table = apply_manifest(table, read_manifest(args.manifest), args.manifest)
    log_unused(table, args.dataset)
    return table[COLUMNS]


def log_unused(manifest: pd.DataFrame, source: str) -> None:
    """Log how many files are dropped, by reason, and how many pictures teach one head only; nothing if there are none."""
    kept = manifest[manifest["kept"]]
    reasons = Counter(reason.partition(":")[0] for reason in manifest.loc[~manifest["kept"], "reason"])
    parts = [f"{count} {reason}" for reason, count in reasons.most_common()]
    missing = {"no age": (kept["age_low"] == UNKNOWN).sum(), "no gender": (kept["gender"] == UNKNOWN).sum()}
    half_used = [f"{count} with {what}" for what, count in missing.items() if count]
    if parts or half_used:
        dropped = f" Dropped: {', '.join(parts)}." if parts else ""
        half = f" Half used: {', '.join(half_used)}." if half_used else ""
        logger.warning(f"{as_text(source)}: {len(manifest)} files, {len(kept)} kept.{dropped}{half}")


def face_features(manifest: pd.DataFrame) -> dict[str, Value]:
    """The columns of a prepared face besides `image`. Age ranges are among them if a face has no exact age."""
    has_ranges = (manifest["kept"] & (manifest["age"] == UNKNOWN) & (manifest["age_low"] != UNKNOWN)).any()
    names = ["age", *(["age_low", "age_high"] if has_ranges else []), "gender", "race"]
    return {name: LABEL_FEATURES[name] for name in names} | {"file_name": Value("string"), "group": Value("string")}


def write_manifest(manifest: pd.DataFrame, path: Path) -> None:
    """Write a CSV whose rows are in the same order for every order of the source."""
    rows = manifest.sort_values(["pixel_hash", "file_name", *SOURCE_LABELS])
    with path.open("w", encoding=ENCODING, newline="") as file:
        write_csv(file, list(rows.columns), rows.itertuples(index=False))


def read_manifest(path: str) -> pd.DataFrame:
    """Read what `write_manifest` wrote.

    Raises:
        DatasetError: no such file, not a manifest, a table beyond all limits, or unknown splits in it.
    """
    texts = dict.fromkeys(["file_name", "pixel_hash", "group", "split", "reason", "race", "source_race"], str)
    try:
        content = read_text_table(Path(path))
        check_columns(path, content, ",")
        manifest = pd.read_csv(io.BytesIO(content), dtype=texts, keep_default_na=False, encoding=ENCODING)
    except DatasetError:
        raise
    except (OSError, ValueError) as error:  # ValueError: pandas' ParserError and EmptyDataError, and UnicodeDecodeError
        raise DatasetError(
            f"{path} cannot be read as the manifest.csv that scripts.prepare_data writes: {error}"
        ) from error
    missing = [name for name in COLUMNS if name not in manifest]
    if missing:
        raise DatasetError(f"{path} is not a manifest: it lacks the columns {', '.join(missing)}.")
    unknown = set(manifest["split"]) - {*SPLITS, ""}
    if unknown:
        raise DatasetError(f"{path} names unknown splits: {', '.join(sorted(unknown))}; expected {', '.join(SPLITS)}.")
    manifest[list(texts)] = manifest[list(texts)].map(read_cell)
    return manifest


def apply_manifest(table: pd.DataFrame, manifest: pd.DataFrame, path: str) -> pd.DataFrame:
    """Give each picture the labels, group and split that the manifest has for the same pixels.

    The file names may differ from the manifest's. Each picture still needs labels, by its name or its row.

    Args:
        table: the pictures, with SOURCE_LABELS, file_name, pixel_hash and problem.
        manifest: what `read_manifest` returned.
        path: of the manifest, for error messages.

    Raises:
        DatasetError: pictures that the manifest keeps are missing.
    """
    decoded = manifest[manifest["pixel_hash"] != ""]
    keys = ["pixel_hash", "number"]
    decoded = decoded.assign(number=duplicate_numbers(decoded))[[*keys, "group", "split", "kept", "reason", *LABELS]]
    table = table.assign(number=duplicate_numbers(table)).drop(columns=LABELS)
    result = table.merge(decoded, how="left", on=keys, validate="many_to_one", indicator="found")
    lost = int(decoded["kept"].sum()) - int(result["kept"].eq(True).sum())
    if lost:
        raise DatasetError(
            f"{lost} of the {decoded['kept'].sum()} pictures that {path} keeps are not in this source: "
            "expected the set that it was made from, in any order, each picture labelled by its name or its row."
        )
    known = result["found"] == "both"
    why = result["problem"].where(result["problem"] != "", "not in the manifest")
    result["reason"] = result["reason"].where(known, why)
    result["kept"] = result["kept"].eq(True)
    for name in ("group", "split"):
        result[name] = result[name].where(known, "")
    for name in LABELS:
        result[name] = result[name].where(known, result[f"source_{name}"]).astype(manifest[name].dtype)
    return result
