"""Push a model's folder to the Hub as one commit, with a card rendered for the repository it goes to."""

import sys
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from model_card.card import render_card
from model_card.hub_checks import HubError, check_name, check_signed_in, check_visibility, hub_errors
from model_card.pushed_files import belongs_to_model, files_to_push
from model_card.requirements import CARD


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
    text that somebody typed into the folder's own README.md is not pushed, and a note says so.

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
    contents: dict[str, Path | bytes] = {path.as_posix(): folder / path for path in files} | {CARD: card.encode()}
    message = commit_message or f"Upload {folder.name}"
    api = HfApi()
    with hub_errors(f"could not push {folder} to {repo_id}"):
        _make_repository(api, repo_id, private, create_pr)
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        head = api.model_info(repo_id, revision=revision)
        if tag:
            _check_tag(api, repo_id, tag, head.sha)
        stale = [
            file.rfilename
            for file in head.siblings or []
            if belongs_to_model(file.rfilename) and file.rfilename not in contents
        ]
        # Not upload_folder: for large folders it makes several commits, so a push that breaks off would show half a model.
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(path, content) for path, content in contents.items()),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message=message,
            revision=revision,
            create_pr=create_pr,
        )
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
