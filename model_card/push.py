"""Push a model's folder to the Hub as one commit, with a card rendered for the repository it goes to: the files that belong to
it, or all that keeps the folder from being pushed.
"""

import json
import re
import sys
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from model.configuration_age_gender import TASK
from model.errors import AgeGenderError
from model.face_detection import YUNET_FILE
from model.model_files import stays_inside
from model_card.card import render_card
from model_card.hub_checks import HubError, check_name, check_signed_in, check_visibility, commit_files, hub_errors
from model_card.requirements import CARD, COMPARISON, REQUIRED_FILES, WEIGHTS, card_problems


REQUIREMENTS = "requirements.txt"
ENDPOINT_FILES = ("handler.py", REQUIREMENTS)  # an Inference Endpoint installs the latter, then loads the former
REQUIRED = (*REQUIRED_FILES, YUNET_FILE)
OPTIONAL = (*ENDPOINT_FILES, "figures/*.png", "figures/*.svg", "onnx/*.onnx", COMPARISON)
SHARED_CODE = Path(__file__).parents[1] / "model"
AUTO_CLASSES = ("AutoConfig", "AutoModel")  # what `trust_remote_code` must find in config.json's auto_map
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")  # the Hub's user access tokens


class ModelFolderError(AgeGenderError):
    """The folder cannot be pushed; the message lists everything that is missing or wrong."""


def files_to_push(folder: Path) -> dict[str, Path]:
    """{path in the repository: file} of all that makes up the model, sorted; without the card, which a push renders.

    A folder without any code, such as model_cc_by/, shares the code of model/, and what lies beside it.

    Raises:
        ModelFolderError: files, code or what the card states are missing, figures or ONNX files are of other weights, or
            a file holds an access token or is a link that leads out of the folder.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is not a folder; give the one that training wrote, outputs/<run>")
    problems = card_problems(folder)
    shares_code = (folder / "config.json").is_file() and not any(folder.glob("*.py"))
    code_folder = SHARED_CODE if shares_code else folder
    if not (code_folder / YUNET_FILE).is_file():
        problems.append(f"{YUNET_FILE} is missing")
    if (code_folder / "handler.py").is_file() and not (code_folder / REQUIREMENTS).is_file():
        problems.append(f"{REQUIREMENTS} is missing, without which handler.py cannot start: copy model/{REQUIREMENTS}")
    if (folder / WEIGHTS).is_file():
        problems += _weights_problems(folder)
    code: set[str] = set()
    if (folder / "config.json").is_file():
        code, code_problems = _find_code(folder, code_folder)
        problems += code_problems
    own = {path.relative_to(folder).as_posix() for pattern in OPTIONAL for path in folder.glob(pattern)}
    beside_code = {name for name in (*ENDPOINT_FILES, YUNET_FILE) if (code_folder / name).is_file()}
    names = {*REQUIRED_FILES, *own, *code, *beside_code}
    files = {name: (code_folder if name in code | beside_code else folder) / name for name in sorted(names)}
    problems += [
        f"{name} is a link to a file outside the folder, which a push would publish: put the file itself there"
        for name, file in files.items()
        if file.is_file() and not stays_inside(file, file.parents[name.count("/")])
    ]
    problems += [f"{name} holds an access token" for name, file in files.items() if _holds_token(file)]
    if problems:
        raise ModelFolderError(f"{folder} cannot be pushed:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return files


def belongs_to_model(path: str) -> bool:
    """Whether a path in a repository is one that a push of a model could have put there."""
    is_code = path.endswith(".py") and "/" not in path
    # A slash before both: `match` compares from the right, and would accept the end of a longer path.
    is_optional = any(PurePosixPath(f"/{path}").match(f"/{pattern}") for pattern in OPTIONAL)
    return is_code or path in (*REQUIRED, CARD) or is_optional


def _find_code(folder: Path, code_folder: Path) -> tuple[set[str], list[str]]:
    """The modules that config.json names and the modules these import, as transformers finds them; and what is wrong."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return set(), []  # `card_problems` reports it
    references = {name: config.get("auto_map", {}).get(name) for name in AUTO_CLASSES}
    references[TASK] = config.get("custom_pipelines", {}).get(TASK, {}).get("impl")
    code, missing, problems = set(), set(), []
    for name, reference in references.items():
        if reference is None:
            problems.append(f"config.json names no class for {name}: save the folder through AgeGenderPipeline")
        elif "--" in reference:
            problems.append(f"config.json takes {name} from another repository, {reference}: save the code with it")
        else:
            module = code_folder / f"{reference.split('.')[0]}.py"
            try:
                code |= {module.name, *(Path(file).name for file in get_relative_import_files(module))}
            except FileNotFoundError as error:
                missing.add(Path(error.filename).name)
    return code, problems + [f"{name} is missing" for name in sorted(missing)]


def _weights_problems(folder: Path) -> list[str]:
    try:
        with safe_open(folder / WEIGHTS, framework="np") as weights:
            return [] if weights.keys() else [f"{WEIGHTS} holds no weights"]
    except SafetensorError as error:
        return [f"{WEIGHTS} is not a whole safetensors file: {error}"]


def _holds_token(path: Path) -> bool:
    is_text = path.suffix in (".json", ".py", ".txt") and path.is_file()
    return is_text and bool(TOKEN.search(path.read_text(encoding="utf-8", errors="replace")))


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    commit_message: str | None = None,
) -> CommitInfo:
    """Push the model in `folder` to `repo_id` as one commit, which also deletes the model's files that the folder lacks.

    The pushed card is always rendered from the folder's measurements, with snippets that load the model from `repo_id`:
    changes made by hand to the folder's own README.md are not pushed, and a note says so.

    Nothing is visible before the commit. A push that failed is finished by calling this again: files that were uploaded are
    not sent twice, and without changes there is no second commit.

    Args:
        folder: shaped like `model/`; other files in it (checkpoints, optimizer state, logs) are not uploaded.
        repo_id: "user/name"; created if it does not exist.
        private: visibility of the repository; None leaves it as it is, or to the account's default for a new one.
        create_pr: open a pull request instead of committing to the repository, which must exist.
        revision: branch to commit to, created from main if it does not exist; None for main.
        tag: names the commit; a tag that names another commit is never moved.

    Raises:
        ModelFolderError: the folder is incomplete; nothing was sent.
        HubError: not signed in, no right to write, a tag or visibility that contradicts, or no connection.
    """
    folder = Path(folder)
    if create_pr and (tag or revision):
        raise HubError("a pull request opens its own branch: tag the version after merging it, and give no revision")
    check_name(repo_id)
    files = files_to_push(folder)
    card = render_card(folder, repo_id, tag)
    check_signed_in()
    contents: dict[str, Path | bytes] = {**files, CARD: card.encode()}
    message = commit_message or f"Upload {folder.name}"
    api = HfApi()
    with hub_errors(f"could not push {folder} to {repo_id}"):
        _make_repository(api, repo_id, private, create_pr)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        head = api.model_info(repo_id, revision=revision)
        if tag:
            _check_tag(api, repo_id, tag, head.sha)
        stale = [file.rfilename for file in head.siblings or [] if belongs_to_model(file.rfilename)]
        commit = commit_files(api, repo_id, contents, stale, message, revision=revision, create_pr=create_pr)
        if tag:
            _check_tag(api, repo_id, tag, commit.oid, "; this push is committed, without a tag")
            api.create_tag(repo_id, tag=tag, revision=commit.oid, exist_ok=True)
    own_card = folder / CARD
    if not own_card.is_file() or own_card.read_text(encoding="utf-8") != card:
        print(f"note: the pushed {CARD} was rendered for {repo_id} and differs from {own_card}", file=sys.stderr)
    return commit


def _make_repository(api: HfApi, repo_id: str, private: bool | None, create_pr: bool) -> None:
    try:
        is_private = bool(api.model_info(repo_id).private)
    except RepositoryNotFoundError as error:
        if create_pr:
            message = f"{repo_id} does not exist or is hidden from you: a pull request needs a repository"
            raise HubError(message) from error
        api.create_repo(repo_id, private=private, exist_ok=True)
        return
    check_visibility(repo_id, is_private, private)


def _check_tag(api: HfApi, repo_id: str, tag: str, oid: str | None, done: str = "") -> None:
    """Raise `HubError` if the tag exists and names another commit than `oid`."""
    named = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags}.get(tag, oid)
    if named != oid:
        raise HubError(
            f"the tag {tag} of {repo_id} names commit {str(named)[:8]}, not {str(oid)[:8]}: a tag stays with its "
            f"version, choose another{done}"
        )
