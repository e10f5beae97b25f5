"""Prepare a set of labelled faces once: clean, group and split it, write it as parquet, and push it if asked to."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict, Image
from datasets.table import embed_table_storage
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from tqdm.auto import tqdm

from model_card.hub_checks import HubError, check_name, check_signed_in, commit_files, hub_errors
from model_card.output_files import only_writer
from trainer.data import DatasetError
from trainer.data.arguments import DataArguments
from trainer.data.card import draw_data_figures, render_data_card
from trainer.data.duplicates import Spread
from trainer.data.loading import select_splits
from trainer.data.manifest import build_manifest, write_manifest
from trainer.data.report import describe_data
from trainer.data.rows import align_faces
from trainer.data.sources import read_pictures


@dataclass
class PrepareArguments:
    """Where the prepared set goes."""

    output_dir: str = field(metadata={"help": "Folder to write, which must not exist or be empty."})
    seed: int = field(default=0, metadata={"help": "Seed of the splits."})
    shard_size: int = field(
        default=2000,
        metadata={"help": "Pictures in one parquet file; a stream is read by at most one process for each file."},
    )
    push_to_hub: str | None = field(default=None, metadata={"help": "user/dataset to push it to, as one commit."})
    public: bool = field(default=False, metadata={"help": "Make that dataset public; it is private otherwise."})
    ray: str | None = field(
        default=None,
        metadata={
            "help": "Read pictures and find duplicates on a cluster of Ray: its host:port; auto, the one that this machine "
            "belongs to; or local, this machine. See docs/scale.md."
        },
    )


def prepare_data(args: PrepareArguments, data_args: DataArguments, spread: Spread | None = None) -> dict[str, Any]:
    """Write the prepared set to `args.output_dir` and push it if asked to.

    Args:
        spread: shares the reading and the search for duplicates out, see `trainer.data.duplicates.Spread`.

    Returns:
        What `trainer.data.report.describe_data` says of it.

    Raises:
        DatasetError: the source cannot be used (see `load_faces`), or the folder is not empty or cannot be written.
        HubError: the push would fail, or failed.
        OutputLockedError: another process prepares a set there.
    """
    folder = Path(args.output_dir)
    with only_writer(folder, "--output_dir"):
        return _prepare_into(folder, args, data_args, spread)


def _prepare_into(
    folder: Path, args: PrepareArguments, data_args: DataArguments, spread: Spread | None
) -> dict[str, Any]:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"{folder} is not empty: choose another output_dir, or remove it first.")
    if data_args.max_samples or data_args.streaming:
        raise DatasetError("max_samples and streaming are for training: a set is prepared as a whole.")
    if args.push_to_hub:
        check_push(args.push_to_hub, args.public)
    pictures = read_pictures(data_args)
    manifest = build_manifest(pictures, data_args, args.seed, spread)
    splits = select_splits(pictures, manifest, data_args, args.seed)
    if data_args.align:
        splits = align_faces(splits, data_args.num_proc)
    report = describe_data(manifest)

    # under another name until it is complete, so that an interrupted run cannot be mistaken for a prepared set
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        write_parquet(splits, unfinished / "data", args.shard_size)
        write_manifest(manifest, unfinished / "manifest.csv")
        figures = draw_data_figures(manifest, unfinished / "figures")
        (unfinished / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        card = render_data_card(report, [path.stem for path in figures], data_args, args.seed, args.push_to_hub)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as error:
        raise DatasetError(
            f"The prepared set could not be written to {unfinished}: {error}. Is the disk full? Make room, or choose "
            "another output_dir."
        ) from error
    if args.push_to_hub:
        push(folder, args.push_to_hub, args.public)
    return report


def write_parquet(splits: DatasetDict, folder: Path, shard_size: int) -> None:
    """Write `<split>-00000-of-00008.parquet` and so on into a new folder, with the encoded pictures inside."""
    folder.mkdir(parents=True)
    for split, faces in splits.items():
        count = -(-len(faces) // shard_size)
        for index in tqdm(range(count), desc=f"Writing {split}", unit="file"):
            shard = faces.shard(count, index, contiguous=True).cast_column("image", Image())
            # to_parquet writes only the path of a picture that is a file, so its bytes are read into the table first
            shard = shard.with_format("arrow").map(
                embed_table_storage, batched=True, batch_size=500, keep_in_memory=True
            )
            shard.with_format(None).to_parquet(folder / f"{split}-{index:05d}-of-{count:05d}.parquet")


def check_push(repo_id: str, public: bool) -> None:
    """Check before the work that a push will succeed and will not publish what should be private.

    Raises:
        HubError: not signed in, `repo_id` is not user/name, no connection, or the dataset is public and `public` is not
            set.
    """
    check_signed_in()
    check_name(repo_id, "dataset")
    with hub_errors(f"could not look up {repo_id}"):
        try:
            existing = HfApi().dataset_info(repo_id)
        except RepositoryNotFoundError:
            return
    if not existing.private and not public:
        raise HubError(f"{repo_id} exists and is public: add --public if these pictures may be published there.")


def push(folder: Path, repo_id: str, public: bool) -> None:
    """Push the whole folder as one commit, which also removes the shards and figures of an earlier push.

    Raises:
        HubError: the Hub did not take it; the message says how to push the folder later.
    """
    api = HfApi()
    # without Xet, `hf upload` makes one commit
    later = (
        f"push it later with `HF_HUB_DISABLE_XET=1 hf upload {repo_id} {folder} . --repo-type dataset "
        "--delete 'data/*' --delete 'figures/*'`"
    )
    failed = f"{folder} is complete, but could not be pushed to {repo_id} ({later})"
    with hub_errors(failed, again="A commit is made whole or not at all."):
        api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        there = [file.rfilename for file in api.dataset_info(repo_id).siblings or []]
        stale = [path for path in there if path.startswith(("data/", "figures/"))]
        commit = commit_files(api, repo_id, files, stale, f"Upload {folder.name}", repo_type="dataset")
    print(f"Pushed to {commit.repo_url}")
