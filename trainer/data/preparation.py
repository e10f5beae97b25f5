"""Prepare a set of labelled faces once: clean, group and split it, write it as parquet, and push it if asked to."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from datasets import DatasetDict
from datasets.table import embed_table_storage
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import httpx
from tqdm.auto import tqdm

from model_card.push import check_name, check_signed_in
from trainer.data.alignment import align_faces
from trainer.data.card import describe_data, render_data_card
from trainer.data.card_figures import draw_data_figures
from trainer.data.loading import DataArguments, read_pictures, select_splits
from trainer.data.manifest import build_manifest, write_manifest


@dataclass
class PrepareArguments:
    """Where the prepared set goes."""

    output_dir: str = field(metadata={"help": "Folder to write, which must not exist or be empty."})
    seed: int = field(default=0, metadata={"help": "Seed of the splits."})
    shard_size: int = field(
        default=2000, metadata={"help": "Pictures in one parquet file; a stream has one reader a file at most."}
    )
    push_to_hub: str | None = field(default=None, metadata={"help": "user/dataset to push it to, as one commit."})
    public: bool = field(default=False, metadata={"help": "Make that dataset public; it is private otherwise."})


def prepare_data(args: PrepareArguments, data_args: DataArguments) -> dict:
    """Write the prepared set to `args.output_dir`, push it if asked to, and return its figures.

    Raises:
        ValueError: what `load_faces` raises, a folder that holds something, or a push that cannot be.
    """
    folder = Path(args.output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: choose another --output-dir, or remove it first.")
    if data_args.max_samples or data_args.streaming:
        raise ValueError("max_samples and streaming are for training: a set is prepared as a whole.")
    if args.push_to_hub:
        check_push(args)
    pictures = read_pictures(data_args)
    manifest = build_manifest(pictures, data_args, args.seed)
    splits = select_splits(pictures, manifest, data_args, args.seed)
    if data_args.align:
        splits = align_faces(splits, data_args.num_proc)

    # under another name until it is complete, so that a broken-off run cannot be taken for a prepared set
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_parquet(splits, unfinished / "data", args.shard_size)
    write_manifest(manifest, unfinished / "manifest.csv")
    figures = draw_data_figures(manifest, unfinished / "figures")
    report = describe_data(manifest)
    (unfinished / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    card = render_data_card(report, [path.stem for path in figures], data_args, args.seed, args.push_to_hub)
    (unfinished / "README.md").write_text(card, encoding="utf-8")
    if folder.exists():
        folder.rmdir()
    unfinished.rename(folder)
    if args.push_to_hub:
        push(folder, args)
    return report


def write_parquet(splits: DatasetDict, folder: Path, shard_size: int) -> None:
    """`<split>-00000-of-00008.parquet` and so on, with the encoded pictures inside."""
    folder.mkdir(parents=True)
    for split, faces in splits.items():
        count = -(-len(faces) // shard_size)
        for index in tqdm(range(count), desc=f"Writing {split}", unit="file"):
            shard = faces.shard(count, index, contiguous=True)
            # to_parquet writes paths as they are: pictures must be read into the table first
            shard = shard.with_format("arrow").map(
                embed_table_storage, batched=True, batch_size=500, keep_in_memory=True
            )
            shard.with_format(None).to_parquet(folder / f"{split}-{index:05d}-of-{count:05d}.parquet")


def check_push(args: PrepareArguments) -> None:
    """Raises ValueError where the push would fail or publish what should be private: better known before the work."""
    check_signed_in()
    check_name(args.push_to_hub, "dataset")
    try:
        existing = HfApi().dataset_info(args.push_to_hub)
    except RepositoryNotFoundError:
        return
    if not existing.private and not args.public:
        raise ValueError(
            f"{args.push_to_hub} exists and is public: add --public if these pictures may be published there."
        )


def push(folder: Path, args: PrepareArguments) -> None:
    """One commit with the whole folder; what an earlier push left of other shards is removed by it."""
    api = HfApi()
    try:
        api.create_repo(args.push_to_hub, repo_type="dataset", private=not args.public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=args.push_to_hub,
            repo_type="dataset",
            folder_path=folder,
            delete_patterns=["data/*", "figures/*"],
            commit_message=f"Upload {folder.name}",
        )
    except (HfHubHTTPError, httpx.TransportError) as error:
        raise ValueError(
            f"{folder} is complete, but could not be pushed to {args.push_to_hub}: {error}. Push it later with "
            f"`hf upload {args.push_to_hub} {folder} . --repo-type dataset`."
        ) from error
    print(f"Pushed to {commit.repo_url}")
