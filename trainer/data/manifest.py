"""The manifest: one row a file, with its hash, its group, its split, and whether it is kept or why not."""

from collections import Counter
from pathlib import Path

import pandas as pd
from datasets import Dataset, Value

from trainer.data.arguments import DataArguments
from trainer.data.cleaning import LABELS, find_groups, fingerprint_pictures, settle_groups
from trainer.data.labels import UNKNOWN
from trainer.data.sources import LABEL_FEATURES
from trainer.data.splits import SPLITS, shuffle_key, split_names, stratum


SOURCE_LABELS = [f"source_{name}" for name in LABELS]
COLUMNS = ["file_name", "pixel_hash", "group", "split", "kept", "reason", *LABELS, *SOURCE_LABELS]


def build_manifest(pictures: Dataset, args: DataArguments, seed: int) -> pd.DataFrame:
    """COLUMNS for every row of `pictures`, in its order; from `args.manifest` where one is given.

    LABELS are those to train with, SOURCE_LABELS those that the source gives. `reason` is "" where a picture is kept,
    and else begins with a word or two and a colon.

    Raises:
        ValueError: too much of the source is unusable, or it is not the source of the manifest.
    """
    fingerprints = fingerprint_pictures(pictures, args.num_proc)
    table = pictures.remove_columns(["image"]).to_pandas()
    found = fingerprints.remove_columns(["thumbnail"]).to_pandas()
    table["problem"] = table["problem"].where(found["undecodable"] == "", found["undecodable"])
    table = table.join(found[["pixel_hash", "pixels"]])
    table[SOURCE_LABELS] = table[LABELS]
    check_usable(table, args)
    if args.manifest:
        return apply_manifest(table, read_manifest(args.manifest), args.manifest)[COLUMNS]
    table["group"] = find_groups(fingerprints)
    if args.split_by == "group":
        table = settle_groups(table, args.max_age_spread)
    else:
        table["reason"] = table["problem"]
    table = table.assign(kept=table["reason"] == "", split="")
    table.loc[table["kept"], "split"] = split_faces(table, args, seed)
    if args.split_by == "picture_purged":
        held_out = table.loc[table["split"].isin(["validation", "test"]), "group"]
        leaks = (table["split"] == "train") & table["group"].isin(held_out)
        table.loc[leaks, ["kept", "reason", "split"]] = [False, "copy: of a picture in validation or test", ""]
    return table[COLUMNS]


def split_faces(table: pd.DataFrame, args: DataArguments, seed: int) -> list[str]:
    """The split of each kept row."""
    contents = content_keys(table)
    faces = table[table["kept"]]
    strata = [stratum(*cell) for cell in zip(faces["age_low"], faces["age_high"], faces["gender"], strict=True)]
    return split_names(contents.tolist(), strata, seed, args.validation_share, args.test_share, args.folds, args.fold)


def content_keys(table: pd.DataFrame) -> pd.Series:
    """A name for what each kept picture shows, distinct among them: its group, or its pixels where copies are kept."""
    faces = table[table["kept"]]
    if faces["group"].is_unique:
        return faces["group"]
    return (table["pixel_hash"] + ":" + _twin_numbers(table).astype(str))[table["kept"]]


def shuffled_rows(table: pd.DataFrame, split: str, seed: int) -> list[int]:
    """Index of the kept rows of a split, in an order that content and seed decide."""
    keys = content_keys(table)[table["split"] == split].map(lambda content: shuffle_key(content, seed))
    return keys.sort_values().index.tolist()


def face_features(manifest: pd.DataFrame) -> dict[str, Value]:
    """The columns of a prepared face beside its `image`; age ranges only where some face has no single age."""
    has_ranges = (manifest["kept"] & (manifest["age"] == UNKNOWN) & (manifest["age_low"] != UNKNOWN)).any()
    names = ["age", *(["age_low", "age_high"] if has_ranges else []), "gender", "race"]
    return {name: LABEL_FEATURES[name] for name in names} | {"file_name": Value("string"), "group": Value("string")}


def check_usable(table: pd.DataFrame, args: DataArguments) -> None:
    """Raises ValueError if more than the stated share of the pictures has a problem. Other kinds of files do not count."""
    pictures = table[table["problem"] != "not a picture"]
    failed = pictures[pictures["problem"] != ""]
    if len(failed) > args.max_unusable_share * len(pictures):
        reasons = Counter(failed["problem"].str.partition(":")[0]).most_common()
        raise ValueError(
            f"{len(failed)} of the {len(pictures)} pictures of {args.dataset} cannot be used, more than the share of "
            f"{args.max_unusable_share} that max_unusable_share allows: "
            f"{', '.join(f'{count} {reason}' for reason, count in reasons)}. "
            f"First: {failed.iloc[0]['file_name']}: {failed.iloc[0]['problem']}."
        )


def write_manifest(manifest: pd.DataFrame, path: Path) -> None:
    """Rows in an order that does not depend on that of the source."""
    manifest.sort_values(["pixel_hash", "file_name", *SOURCE_LABELS]).to_csv(path, index=False)


def read_manifest(path: str) -> pd.DataFrame:
    """Raises ValueError if there is no such file or it is no manifest."""
    texts = dict.fromkeys(["file_name", "pixel_hash", "group", "split", "reason", "race", "source_race"], str)
    try:
        manifest = pd.read_csv(path, dtype=texts, keep_default_na=False)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as the manifest.csv that scripts.prepare_data writes: {error}"
        ) from error
    missing = [name for name in COLUMNS if name not in manifest]
    if missing:
        raise ValueError(f"{path} is not a manifest: it lacks the columns {', '.join(missing)}.")
    unknown = set(manifest["split"]) - {*SPLITS, ""}
    if unknown:
        raise ValueError(f"{path} names unknown splits: {', '.join(sorted(unknown))}; expected {', '.join(SPLITS)}.")
    return manifest


def apply_manifest(table: pd.DataFrame, manifest: pd.DataFrame, path: str) -> pd.DataFrame:
    """Give each picture the labels, group and split that the manifest has for the same pixels.

    File names may be others than the manifest's, as long as every picture still has labels by its name or its row.

    Raises:
        ValueError: pictures that the manifest keeps are missing.
    """
    decoded = manifest[manifest["pixel_hash"] != ""]
    keys = ["pixel_hash", "twin"]
    decoded = decoded.assign(twin=_twin_numbers(decoded))[[*keys, "group", "split", "kept", "reason", *LABELS]]
    table = table.assign(twin=_twin_numbers(table)).drop(columns=LABELS)
    result = table.merge(decoded, how="left", on=keys, validate="many_to_one", indicator="found")
    lost = int(decoded["kept"].sum()) - int(result["kept"].eq(True).sum())
    if lost:
        raise ValueError(
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


def _twin_numbers(table: pd.DataFrame) -> pd.Series:
    """Counts the pictures with the same pixels from 0, in an order that the order of the rows does not change."""
    return table.sort_values([*SOURCE_LABELS, "file_name"]).groupby("pixel_hash").cumcount().reindex(table.index)
