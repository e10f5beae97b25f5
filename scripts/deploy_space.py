"""Create or update a Gradio Space that runs this demo with a model from the Hub, at one revision of it.

    python -m scripts.deploy_space user/space --model user/age-gender --revision v1

One commit holds all files; which model they run is said by the Space's variables MODEL_ID and MODEL_REVISION. The token
comes from `hf auth login` or HF_TOKEN, never from an argument.
"""

import argparse
import sys

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    SpaceHardware,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from demo.model_files import REQUIRED_FILES
from model.face_detection import YUNET_FILE
from model_card.hub_checks import HubError, check_name, check_signed_in, check_visibility
from model_card.weights import WEIGHTS
from scripts.space_files import belongs_to_demo, space_files


# ZeroGPU lends its GPU to functions that ask for it by a decorator, which this app does not carry.
HARDWARE = [hardware.value for hardware in SpaceHardware if hardware is not SpaceHardware.ZERO_A10G]


def deploy_space(
    space_id: str,
    model_id: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    hardware: str | None = None,
) -> CommitInfo:
    """Make `space_id` run this demo with `model_id`: nothing changes before all of it is known to be there.

    Args:
        space_id: "user/space"; created if it does not exist.
        revision: branch, tag or commit of the model; the Space is pinned to the commit it names now. None for main.
        private: of a Space that is created; None for the account's default.
        hardware: what the Space asks for, "cpu-basic" for one that is created; None leaves an existing one as it is.

    Raises:
        HubError: no such model or revision, no model in it, not signed in, no user in the Space's name, or the Space
            exists with another visibility.
        HfHubHTTPError: the Hub refused; a commit is made whole or not at all, so deploying again finishes.
    """
    check_signed_in()
    check_name(space_id, "Space")
    api = HfApi()
    commit = _find_model(api, model_id, revision)
    files = space_files(model_id, commit, hardware)
    variables = {"MODEL_ID": model_id, "MODEL_REVISION": commit}
    before = _make_space(api, space_id, private, hardware, variables)
    current = {name: variable.value for name, variable in api.get_space_variables(space_id).items()}
    for name, value in variables.items():
        if current.get(name) != value:
            api.add_space_variable(space_id, name, value)
    stale = [path for path in before if belongs_to_demo(path) and path not in files]
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    operations += [CommitOperationDelete(path) for path in stale]
    message = f"Run {model_id} at {commit[:8]}"
    return api.create_commit(space_id, operations, repo_type="space", commit_message=message)


def _find_model(api: HfApi, model_id: str, revision: str | None) -> str:
    """The commit that `revision` names, if it holds a model that the demo can serve."""
    try:
        info = api.model_info(model_id, revision=revision)
    except RevisionNotFoundError as error:
        raise HubError(f"{model_id} has no revision {revision!r}: give a branch, tag or commit of it") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"there is no model {model_id} on the Hub that you may read: push one with python -m scripts.push_to_hub"
        ) from error
    found = {file.rfilename for file in info.siblings}
    missing = [name for name in (*REQUIRED_FILES, WEIGHTS, YUNET_FILE) if name not in found]
    if missing:
        raise HubError(f"{model_id} at {info.sha[:8]} is no model that the demo can run: it lacks {', '.join(missing)}")
    if info.private:
        print(
            f"note: {model_id} is private. The Space needs a secret HF_TOKEN that may read it: add it in its settings.",
            file=sys.stderr,
        )
    return info.sha


def _make_space(
    api: HfApi, space_id: str, private: bool | None, hardware: str | None, variables: dict[str, str]
) -> list[str]:
    """Create the Space, or bring an existing one to the hardware asked for; returns the paths of its files."""
    try:
        info = api.space_info(space_id)
    except RepositoryNotFoundError:
        api.create_repo(
            space_id,
            repo_type="space",
            space_sdk="gradio",
            private=private,
            space_hardware=hardware,
            space_variables=[{"key": name, "value": value} for name, value in variables.items()],
        )
        return [file.rfilename for file in api.space_info(space_id).siblings]
    check_visibility(space_id, info.private, private)
    if hardware:
        api.request_space_hardware(space_id, hardware)
    return [file.rfilename for file in info.siblings]


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
    except (HubError, HFValidationError) as error:
        sys.exit(f"error: {error}")
    except (HfHubHTTPError, httpx.TransportError) as error:
        sys.exit(f"error: the Space was not deployed: {error}\nRun the same command again once this is mended.")
    print(f"{commit.repo_url} runs {args.model_id} from commit {commit.oid} on; its build takes some minutes.")


if __name__ == "__main__":
    main()
