"""What keeps something from going to the Hub: found before the work is done, and said with what to do."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    constants,
    get_token,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import httpx, validate_repo_id

from model_card.card import render_card
from model_card.pushed_files import belongs_to_model, files_to_push


class HubError(ValueError):
    """The Hub did not take something, or should not be given it; the message says why and what to do."""


def check_signed_in() -> None:
    if get_token() is None:
        raise HubError("not signed in to the Hub: run `hf auth login`, or set HF_TOKEN to a token that may write")


def check_name(repo_id: str, kind: str = "repository") -> None:
    """The Hub also takes a name without its user; whose it is should not be guessed."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is not the name of a {kind}, user/name: {error}") from error
    if "/" not in repo_id:
        raise HubError(f"{repo_id!r} is not the name of a {kind}, user/name: write whose it is")


def check_visibility(repo_id: str, is_private: bool, wanted_private: bool | None) -> None:
    """Visibility of what exists is never changed in passing; None asks for none."""
    if wanted_private is not None and wanted_private != is_private:
        words = ("public", "private")
        raise HubError(
            f"{repo_id} exists and is {words[is_private]}, not {words[wanted_private]} as asked: change that in its "
            "settings, or leave the option out"
        )


CARD = "README.md"
WAITS_SECONDS = (1, 2, 4, 8)  # between one try of the whole push and the next


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
    """Push the model in `folder` to `repo_id` as one commit, which also removes the model's files that it lacks.

    A card whose snippets load the model from elsewhere is rendered anew on its way; the folder's own stays as it is.

    Nothing is visible before that commit, and a push that broke off is finished by calling this again: what was
    uploaded is not sent twice, and what is already there makes no second commit.

    Args:
        folder: shaped like `model/`; of other files in it (checkpoints, optimizer state, logs) none is uploaded.
        repo_id: "user/name"; created if it does not exist.
        private: of the repository; None leaves it as it is, or to the account's default where it is created.
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
    contents: dict[str, Path | bytes] = {path.as_posix(): folder / path for path in files_to_push(folder)}
    check_signed_in()
    names_another = f'"{repo_id}"' not in (folder / CARD).read_text(encoding="utf-8")
    if names_another:
        contents[CARD] = render_card(folder, repo_id, tag).encode()
    message = commit_message or f"Upload {folder.name}"
    push = _Push(contents, repo_id, private, create_pr, revision, tag, message)
    try:
        pushed = _retried(push.once)
    except (HfHubHTTPError, httpx.TransportError, json.JSONDecodeError) as error:
        raise HubError(f"could not push {folder} to {repo_id}: {_reason(error)}.{_again(error)}") from error
    except RuntimeError as error:  # how the client reports an upload that it has tried six times
        cause = error.__cause__
        if not isinstance(cause, (HfHubHTTPError, httpx.TransportError)):
            raise
        raise HubError(f"could not push {folder} to {repo_id}: {error} {_reason(cause)}.{_again(cause)}") from error
    if names_another:
        print(f"note: the pushed {CARD} has snippets that load {repo_id}, unlike {folder / CARD}", file=sys.stderr)
    return pushed


@dataclass
class _Push:
    """The steps of one push, safe to begin again after any of them."""

    contents: dict[str, Path | bytes]  # path in the repository -> file or what it holds
    repo_id: str
    private: bool | None
    create_pr: bool
    revision: str | None
    tag: str | None
    message: str
    api: HfApi = field(default_factory=HfApi)
    known_pull_requests: set[str] | None = None

    def once(self) -> CommitInfo:
        """One try of the whole; every step finds out by itself whether an earlier try already did it."""
        self._make_repository()
        if self.revision:
            self.api.create_branch(self.repo_id, branch=self.revision, exist_ok=True)
        head = self.api.model_info(self.repo_id, revision=self.revision)
        if self.tag:
            self._check_tag(head.sha)
        if self.create_pr:
            return self._open_pull_request(head)
        # Not upload_folder: that one commits what it has every five minutes, so an interrupted push would show half.
        commit = self._commit_to(head, revision=self.revision)
        if self.tag:
            self._check_tag(commit.oid, "; this push is committed, without a tag")
            self.api.create_tag(self.repo_id, tag=self.tag, revision=commit.oid, exist_ok=True)
        return commit

    def _commit_to(self, head: ModelInfo, **where: str | bool | None) -> CommitInfo:
        """One commit that makes `head`'s files of the model those of this push."""
        there = [file.rfilename for file in head.siblings]
        stale = [path for path in there if belongs_to_model(path) and path not in self.contents]
        operations = [CommitOperationAdd(path, content) for path, content in self.contents.items()]
        operations += [CommitOperationDelete(path) for path in stale]
        return self.api.create_commit(self.repo_id, operations, commit_message=self.message, **where)

    def _make_repository(self) -> None:
        try:
            is_private = self.api.model_info(self.repo_id).private
        except RepositoryNotFoundError as error:
            if self.create_pr:
                message = f"{self.repo_id} does not exist or is hidden from you: a pull request needs a repository"
                raise HubError(message) from error
            self.api.create_repo(self.repo_id, private=self.private, exist_ok=True)
            return
        check_visibility(self.repo_id, is_private, self.private)

    def _check_tag(self, oid: str, done: str = "") -> None:
        named = {ref.name: ref.target_commit for ref in self.api.list_repo_refs(self.repo_id).tags}.get(self.tag, oid)
        if named != oid:
            raise HubError(
                f"the tag {self.tag} of {self.repo_id} names commit {named[:8]}, not {oid[:8]}: a tag stays with its "
                f"version, choose another{done}"
            )

    def _open_pull_request(self, head: ModelInfo) -> CommitInfo:
        refs = self.api.list_repo_refs(self.repo_id, include_pull_requests=True).pull_requests or []
        if self.known_pull_requests is None:
            self.known_pull_requests = {ref.ref for ref in refs}
        for ref in refs:  # one that is new was opened by an earlier try whose answer was lost, if its title is ours
            if ref.ref not in self.known_pull_requests and self._title(ref.ref) == self.message:
                opened = self.api.model_info(self.repo_id, revision=ref.ref)
                commit = self._commit_to(opened, revision=ref.ref)
                url = f"{commit.repo_url}/discussions/{ref.ref.removeprefix('refs/pr/')}"
                return CommitInfo(commit.commit_url, self.message, "", commit.oid, pr_url=url)
        return self._commit_to(head, create_pr=True)

    def _title(self, revision: str) -> str:
        return self.api.list_repo_commits(self.repo_id, revision=revision)[0].title


def _is_passing(error: Exception) -> bool:
    """Whether the same call may succeed a moment later."""
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (408, 429, *range(500, 600))


def _again(error: Exception) -> str:
    return " A commit is made whole or not at all: run the same command again to finish." if _is_passing(error) else ""


def _retried(push: Callable[[], CommitInfo]) -> CommitInfo:
    """The client tries downloads and uploads again by itself, but not the calls that create or commit."""
    for wait_seconds in WAITS_SECONDS:
        try:
            return push()
        except (HfHubHTTPError, httpx.TransportError, json.JSONDecodeError) as error:
            if not _is_passing(error):
                raise
            print(f"{_reason(error)}; trying again in {wait_seconds} s", file=sys.stderr)
            time.sleep(wait_seconds)
    return push()


def _reason(error: BaseException | None) -> str:
    """What went wrong and, where the user can mend it, how."""
    if isinstance(error, json.JSONDecodeError):  # the client reads some answers before it looks at their status
        return "the Hub answered with a page that is not JSON, as an overloaded gateway does"
    if not isinstance(error, HfHubHTTPError):
        return f"the connection to {constants.ENDPOINT} failed ({error})"
    status = error.response.status_code
    if status == 401:
        return "the Hub does not accept this token: run `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return f"this token may not write there ({error.server_message}): use one that may, or --create-pr"
    return f"the Hub answered {status} ({error.server_message or 'no reason given'})"
