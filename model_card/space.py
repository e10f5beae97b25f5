"""Deploy the demo as a Space: a Gradio Space that runs a model from the Hub, or a static one whose visitors run it themselves."""

import sys
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    HfApi,
    SpaceCardData,
    SpaceHardware,
    SpaceInfo,
)
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.repocard import metadata_load
from packaging.requirements import Requirement

from model.face_detection import YUNET_FILE
from model_card.hub_checks import HubError, check_name, check_signed_in, check_visibility, commit_files, hub_errors
from model_card.requirements import CARD, NETWORK_FILES


ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "app.py",
    "demo/**/*.py",
    "demo/web/**/*.*",
    "demo/web/**/LICENSE",
    "examples/**/*.*",
    "model/*.py",
    "model/*.onnx",
)
NOT_NEEDED = "model/handler.py"  # of Inference Endpoints
REQUIREMENTS = ROOT / "deploy" / "requirements.txt"  # what these files import
MODEL_FILES = (*NETWORK_FILES, YUNET_FILE)  # without which the demo cannot run
# ZeroGPU lends its GPU to functions that ask for it by a decorator, which this app does not use.
HARDWARE = [hardware.value for hardware in SpaceHardware if hardware is not SpaceHardware.ZERO_A10G]
CARD_TEXT = """\
---
{metadata}
---

# {title}

Estimates the age and the apparent gender of every face in a picture, with
[{model}](https://huggingface.co/{model}/tree/{revision}).

**It must not be used to decide anything about a person**, or on people who did not agree to it. The model's card says
what it was trained on, for whom it fails, and under which terms it may be used.

Deployed by `python -m scripts.deploy_space`. The Space's variables `MODEL_ID` and `MODEL_REVISION` choose the model.
"""
STATIC_CARD_TEXT = """\
---
{metadata}
---

# {title}

Estimates the age and the apparent gender of every face in a picture or before the camera. The model runs in the visitor's
browser: no picture and no answer leaves the device. [model/README.md](model/README.md) says what it was trained on, for whom
it fails, and under which terms it may be used.

**It must not be used to decide anything about a person**, or on people who did not agree to it.

Deployed by `python -m scripts.deploy_space --static`.
"""
STATIC_INDEX = "index.html"


def deploy_space(
    space_id: str,
    model_id: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    hardware: str | None = None,
) -> CommitInfo:
    """Make `space_id` run this demo with `model_id`, by one commit; everything is checked before anything changes.

    Hardware and variables, which choose the model, change only after the commit.

    Args:
        space_id: "user/space"; created if it does not exist.
        model_id: "user/name" of the model.
        revision: branch, tag or commit of the model; the Space is pinned to the commit it names now. None for main.
        private: visibility of a new Space; None for the account's default.
        hardware: one of `HARDWARE`; None is "cpu-basic" for a new Space and leaves an existing one as it is.

    Raises:
        HubError: no such model or revision, no model in it, not signed in, no user in the Space's name, the Space
            exists with another visibility or another SDK, or the Hub refused or cannot be reached. Calling this again
            finishes.
    """
    check_signed_in()
    check_name(space_id, "Space")
    api = HfApi()
    with hub_errors(f"could not deploy {space_id}"):
        commit = _find_model(api, model_id, revision)
        files = space_files(model_id, commit, hardware)
        before = _find_space(api, space_id, private, "gradio")
        if before is None:
            api.create_repo(
                space_id,
                repo_type="space",
                space_sdk="gradio",
                private=private,
                space_hardware=SpaceHardware(hardware) if hardware else None,
            )
        stale = [path for path in (_paths_of(before) if before else ()) if _belongs_to_demo(path)]
        deployed = commit_files(api, space_id, files, stale, f"Run {model_id} at {commit[:8]}", repo_type="space")
        # After the commit: if that fails, the Space stays as it was, with the model that its code belongs to.
        if before is not None and hardware:
            api.request_space_hardware(space_id, SpaceHardware(hardware))
        current = {name: variable.value for name, variable in api.get_space_variables(space_id).items()}
        for name, value in {"MODEL_ID": model_id, "MODEL_REVISION": commit}.items():
            if current.get(name) != value:
                api.add_space_variable(space_id, name, value)
    return deployed


def deploy_static_space(space_id: str, site: Path, model: str, *, private: bool | None = None) -> CommitInfo:
    """Make `space_id` serve a folder of `scripts.export_web`, by one commit.

    Args:
        space_id: "user/space"; created if it does not exist.
        model: what the commit calls the model, such as a Hub id and a revision.
        private: visibility of a new Space; None for the account's default.

    Raises:
        HubError: not signed in, no user in the Space's name, the Space exists with another visibility or another SDK, or
            the Hub refused or cannot be reached. Calling this again finishes.
    """
    check_signed_in()
    check_name(space_id, "Space")
    api = HfApi()
    with hub_errors(f"could not deploy {space_id}"):
        space = _find_space(api, space_id, private, "static")
        if space is None:
            api.create_repo(space_id, repo_type="space", space_sdk="static", private=private)
            space = api.space_info(space_id)  # the Hub puts an example site into a new one
        if "app.py" in _paths_of(space):
            raise HubError(f"{space_id} holds a demo with a server: give the static one a Space of its own")
        metadata = _static_metadata()
        card = STATIC_CARD_TEXT.format(metadata=metadata.to_yaml(), title=metadata["title"])
        files: dict[str, bytes | Path] = {CARD: card.encode()}
        files |= {path.relative_to(site).as_posix(): path for path in sorted(site.rglob("*")) if path.is_file()}
        stale = [path for path in _paths_of(space) if path != ".gitattributes"]
        return commit_files(api, space_id, files, stale, f"Run {model} in the visitor's browser", repo_type="space")


def _static_metadata() -> SpaceCardData:
    """The demo's, without what belongs to Gradio."""
    metadata = {**(metadata_load(ROOT / CARD) or {}), "sdk": "static", "app_file": STATIC_INDEX}
    return SpaceCardData(
        **{key: value for key, value in metadata.items() if key not in ("sdk_version", "python_version")}
    )


def space_files(model_id: str, revision: str, hardware: str | None = None) -> dict[str, bytes]:
    """Path -> content of all files of the Space: code, assets, pinned requirements, and a card with the front matter."""
    paths = [path.relative_to(ROOT).as_posix() for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    files = {path: (ROOT / path).read_bytes() for path in paths if path != NOT_NEEDED}
    files["requirements.txt"] = _requirements().encode()
    files[CARD] = _card(model_id, revision, hardware).encode()
    return files


def _requirements() -> str:
    """The image's packages, in exactly the versions that are installed here."""
    lines = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            package = Requirement(line)
            extras = f"[{','.join(sorted(package.extras))}]" if package.extras else ""
            installed = version(package.name).split("+")[0]  # without torch's +cpu: a Space may have a GPU
            lines.append(f"{package.name}{extras}=={installed}\n")
    return "".join(lines)


def _card(model_id: str, revision: str, hardware: str | None) -> str:
    metadata = SpaceCardData(**(metadata_load(ROOT / CARD) or {}))
    metadata["sdk_version"] = version("gradio")
    metadata["models"] = [model_id]
    if hardware:
        metadata["suggested_hardware"] = hardware
    return CARD_TEXT.format(metadata=metadata.to_yaml(), title=metadata["title"], model=model_id, revision=revision)


def _belongs_to_demo(path: str) -> bool:
    """Whether an earlier deployment may have put a file there; other files, such as .gitattributes, stay."""
    return path == "app.py" or path.startswith(("demo/", "examples/", "model/"))


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
    commit, found = info.sha or "", {file.rfilename for file in info.siblings or []}
    missing = [name for name in MODEL_FILES if name not in found]
    if missing:
        raise HubError(f"{model_id} at {commit[:8]} is no model that the demo can run: it lacks {', '.join(missing)}")
    if info.private:
        print(
            f"note: {model_id} is private. The Space needs a secret HF_TOKEN that may read it: add it in its settings.",
            file=sys.stderr,
        )
    return commit


def _find_space(api: HfApi, space_id: str, private: bool | None, sdk: str) -> SpaceInfo | None:
    """The Space, if it exists. Raises `HubError` if it has another visibility, or serves something else than `sdk`."""
    try:
        space = api.space_info(space_id)
    except RepositoryNotFoundError:
        return None
    check_visibility(space_id, bool(space.private), private)
    if space.sdk not in (None, sdk):  # None: nothing has been committed to it that names one
        raise HubError(f"{space_id} is a {space.sdk} Space, not a {sdk} one: deploy to a Space of its own")
    return space


def _paths_of(space: SpaceInfo) -> list[str]:
    return [file.rfilename for file in space.siblings or []]
