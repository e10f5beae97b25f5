"""Create or update a Gradio Space that runs this demo with a model from the Hub, at one revision of it.

    python -m scripts.deploy_space user/space --model user/age-gender --revision v1

One commit holds all files; which model they run is said by the Space's variables MODEL_ID and MODEL_REVISION. The token
comes from `hf auth login` or HF_TOKEN, never from an argument.
"""

import argparse
import ast
import importlib.metadata
import sys
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    SpaceCardData,
    SpaceHardware,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.repocard import metadata_load
from huggingface_hub.utils import httpx
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demo.serving import REQUIRED_FILES
from model.face_detection import YUNET_FILE
from model_card.push import HubError, check_name, check_signed_in, check_visibility
from model_card.requirements import WEIGHTS


ROOT = Path(__file__).resolve().parents[1]
APP = "app.py"
ASSETS = ("demo/*.css", "demo/*.js", "examples/*.jpg")
CARD = """\
---
{metadata}
---

# {title}

Guesses the age and the apparent gender of every face in a picture, with
[{model}](https://huggingface.co/{model}/tree/{revision}).

**It must not be used to decide anything about a person**, or on people who did not agree to it. The model's card says
what it was trained on, for whom it fails, and under which terms it may be used.

Deployed by `python -m scripts.deploy_space`. The Space's variables `MODEL_ID` and `MODEL_REVISION` choose the model.
"""


def space_files(model_id: str, revision: str, hardware: str | None = None) -> dict[str, bytes]:
    """Path -> content of all files of the Space: the code that app.py imports, its assets, requirements and front matter."""
    code, distributions = imported_code()
    paths = [*code, *(path for pattern in ASSETS for path in sorted(ROOT.glob(pattern)))]
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    files["requirements.txt"] = _pinned(distributions).encode()
    files["README.md"] = _card(model_id, revision, hardware).encode()
    return files


def imported_code() -> tuple[list[Path], set[str]]:
    """The repository's modules that app.py imports, directly or not, and the distributions that these import."""
    waiting, code, distributions = [ROOT / APP], set(), set()
    distributions_of = importlib.metadata.packages_distributions()
    while waiting:
        path = waiting.pop()
        if path in code:
            continue
        code.add(path)
        for module in _imported_modules(path):
            if module.split(".")[0] in sys.stdlib_module_names:
                continue
            files = _module_files(module)
            waiting += files
            if not files:
                distributions |= {canonicalize_name(name) for name in distributions_of[module.split(".")[0]]}
    return sorted(code), distributions


def _imported_modules(path: Path) -> set[str]:
    """Absolute names of what a module of the repository imports, but for what it tries to and can do without."""
    modules = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), filename=str(path))]
    while waiting:
        node = waiting.pop()
        waiting += [] if isinstance(node, ast.Try) else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[:-1][: len(path.relative_to(ROOT).parts) - node.level]
            modules.add(".".join((*package, node.module)) if node.level else node.module)
    return modules


def _module_files(module: str) -> list[Path]:
    """A module's file and its package's __init__.py; empty for a module from elsewhere."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return [file for file in (path, path.parent / "__init__.py") if file.is_file()]


def _pinned(distributions: set[str]) -> str:
    """requirements.txt with exactly the versions that are installed here, and the extras the repository asks for."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    stated = [Requirement(line) for line in lines if line and not line.startswith("#")]
    extras = {canonicalize_name(requirement.name): requirement.extras for requirement in stated}
    pinned = []
    for name in sorted(distributions):
        wanted = f"[{','.join(sorted(extras[name]))}]" if extras.get(name) else ""
        version = importlib.metadata.version(name).split("+")[0]  # without torch's +cpu
        pinned.append(f"{name}{wanted}=={version}\n")
    return "".join(pinned)


def _card(model_id: str, revision: str, hardware: str | None) -> str:
    metadata = SpaceCardData(**metadata_load(ROOT / "README.md"))
    metadata["sdk_version"] = importlib.metadata.version("gradio")
    metadata["models"] = [model_id]
    if hardware:
        metadata["suggested_hardware"] = hardware
    return CARD.format(metadata=metadata.to_yaml(), title=metadata["title"], model=model_id, revision=revision)


def belongs_to_demo(path: str) -> bool:
    """Whether an earlier deployment may have put a file there; others, a .gitattributes say, stay."""
    return path == APP or path.startswith(("demo/", "examples/", "model/"))


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
