"""Push a trained model's folder to the Hub as one commit.

    python -m scripts.push_to_hub outputs/vit_tiny user/age-gender --private --tag v1

The token comes from `hf auth login` or HF_TOKEN, never from an argument.
"""

import argparse
from pathlib import Path

from model.configuration_age_gender import TASK
from model_card.push import push_folder
from scripts.command import errors_explained


def main() -> None:
    parser = argparse.ArgumentParser(description="Push a trained model's folder to the Hub as one commit.")
    parser.add_argument("folder", type=Path, help="outputs/<run>, shaped like model/")
    parser.add_argument("repo_id", help="user/name; created if it does not exist")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", dest="private", action="store_true", default=None)
    visibility.add_argument("--public", dest="private", action="store_false", help="default: what the account creates")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--revision", help="branch to commit to; created if it does not exist (default: main)")
    parser.add_argument("--tag", help="name of this version, v1 say")
    parser.add_argument("--commit-message", help="default: Upload <name of the folder>")
    args = parser.parse_args()
    commit = push_folder(**vars(args))
    print(f"{commit.pr_url or commit.repo_url} holds {args.folder} at commit {commit.oid}. To load it:\n")
    print("    from transformers import pipeline")
    print(f'    pipe = pipeline("{TASK}", model="{args.repo_id}", revision="{commit.oid}", trust_remote_code=True)')
    print('    print(pipe("photo.jpg"))')


if __name__ == "__main__":
    with errors_explained():
        main()
