"""Create or update a Space that runs this demo with a model from the Hub, at one revision of it.

    python -m scripts.deploy_space user/space --model user/age-gender --revision v1

With `--static` the Space serves files only, of any model that `scripts.export_web` takes: each visitor's browser runs it.

The Space's variables MODEL_ID and MODEL_REVISION say which model it runs. The token comes from `hf auth login` or HF_TOKEN,
never from an argument.
"""

import argparse
import tempfile
from pathlib import Path

from demo.device_files import write_site
from demo.serving import find_model
from demo.settings import ModelChoice, default_name
from model_card.hub_checks import check_signed_in
from model_card.space import HARDWARE, deploy_space, deploy_static_space
from scripts.command import errors_explained


def main() -> None:
    parser = argparse.ArgumentParser(description="Create or update a Space that runs this demo.")
    parser.add_argument("space_id", help="user/space; created if it does not exist")
    parser.add_argument(
        "--model", dest="model_id", required=True, help="the model's Hub id; or, with --static, a folder"
    )
    parser.add_argument("--revision", help="branch, tag or commit of the model (default: main as it is now)")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", dest="private", action="store_true", default=None)
    visibility.add_argument("--public", dest="private", action="store_false", help="default: what the account creates")
    parser.add_argument("--hardware", choices=HARDWARE, metavar="NAME", help="cpu-basic, cpu-upgrade, t4-small, ...")
    parser.add_argument(
        "--static", action="store_true", help="without a server: the model runs in the visitor's browser"
    )
    args = parser.parse_args()
    if args.static and args.hardware:
        parser.error("a static Space has no hardware: leave out --hardware")
    if args.static:
        deploy_static(args)
        return
    commit = deploy_space(**{name: value for name, value in vars(args).items() if name != "static"})
    print(f"{commit.repo_url} runs {args.model_id} from commit {commit.oid} on; its build takes some minutes.")


def deploy_static(args: argparse.Namespace) -> None:
    check_signed_in()  # before the model is fetched
    served = find_model(ModelChoice(default_name(args.model_id), args.model_id, args.revision))
    with tempfile.TemporaryDirectory() as folder:
        write_site(served, Path(folder))
        model = f"{served.name}, {served.revision}"  # no local path: the commit may be public
        commit = deploy_static_space(args.space_id, Path(folder), model, private=args.private)
    print(f"{commit.repo_url} serves {model}, from commit {commit.oid} on.")


if __name__ == "__main__":
    with errors_explained():
        main()
