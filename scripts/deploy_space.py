"""Create or update a Gradio Space that runs this demo with a model from the Hub, at one revision of it.

    python -m scripts.deploy_space user/space --model user/age-gender --revision v1

The Space's variables MODEL_ID and MODEL_REVISION say which model it runs. The token comes from `hf auth login` or HF_TOKEN,
never from an argument.
"""

import argparse
import sys

from model.errors import AgeGenderError
from model_card.space import HARDWARE, deploy_space


def main() -> None:
    parser = argparse.ArgumentParser(description="Create or update a Gradio Space that runs this demo.")
    parser.add_argument("space_id", help="user/space; created if it does not exist")
    parser.add_argument("--model", dest="model_id", required=True, help="the model's Hub id, user/repo")
    parser.add_argument("--revision", help="branch, tag or commit of the model (default: main as it is now)")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", dest="private", action="store_true", default=None)
    visibility.add_argument("--public", dest="private", action="store_false", help="default: what the account creates")
    parser.add_argument("--hardware", choices=HARDWARE, metavar="NAME", help="cpu-basic, cpu-upgrade, t4-small, ...")
    args = parser.parse_args()
    try:
        commit = deploy_space(**vars(args))
    except AgeGenderError as error:
        sys.exit(f"error: {error}")
    print(f"{commit.repo_url} runs {args.model_id} from commit {commit.oid} on; its build takes some minutes.")


if __name__ == "__main__":
    main()
