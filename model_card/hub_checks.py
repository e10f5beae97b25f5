"""Check that the Hub can be written to, and turn the failures of its client into errors that say what to do."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import httpx, validate_repo_id

from model.errors import AgeGenderError


_AGAIN = "A commit is made whole or not at all: run the same command again to finish."


class HubError(AgeGenderError):
    """The Hub refused something, cannot be reached, or should not be asked; the message says why and what to do."""


def check_signed_in() -> None:
    """Raise `HubError` if there is no token, neither of `hf auth login` nor in HF_TOKEN."""
    if get_token() is None:
        raise HubError("not signed in to the Hub: run `hf auth login`, or set HF_TOKEN to a token that may write")


def check_name(repo_id: str, kind: str = "repository") -> None:
    """Raise `HubError` unless `repo_id` is "user/name". The Hub would also take "name", and guess the user."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is not the name of a {kind}, user/name: {error}") from error
    if "/" not in repo_id:
        raise HubError(f"{repo_id!r} is not the name of a {kind}, user/name: write whose it is")


def check_visibility(repo_id: str, is_private: bool, wanted_private: bool | None) -> None:
    """Raise `HubError` if a repository exists with another visibility than wanted (None: any); nothing changes it here."""
    if wanted_private is not None and wanted_private != is_private:
        words = ("public", "private")
        raise HubError(
            f"{repo_id} exists and is {words[is_private]}, not {words[wanted_private]} as asked: change that in its "
            "settings, or leave the option out"
        )


def check_may_write(repo_id: str, wanted_private: bool | None = None) -> None:
    """Ask the Hub whether this token may push a model to `repo_id`; nothing is changed there.

    Raises:
        HubError: the token may only read, the repository belongs to somebody else or has another visibility than wanted
            (None: any), or the Hub cannot be asked.
    """
    api = HfApi()
    with hub_errors(f"could not ask the Hub whether this token may write to {repo_id}"):
        account = api.whoami()
        try:
            is_private = bool(api.model_info(repo_id).private)
        except RepositoryNotFoundError:
            _check_may_create(repo_id, account)
            return
        check_visibility(repo_id, is_private, wanted_private)
        api.auth_check(repo_id, write=True)


def _check_may_create(repo_id: str, account: dict[str, Any]) -> None:
    token = account.get("auth", {}).get("accessToken", {})  # an OAuth session has none
    if token.get("role") == "read":
        raise HubError(
            f"this token of {account['name']} may only read, and cannot create {repo_id}: use one that may write"
        )
    organisations = [one["name"] for one in account.get("orgs", ()) if one.get("roleInOrg") != "read"]
    namespaces = [account["name"], *organisations]
    if token.get("role") == "fineGrained":
        scopes = token.get("fineGrained", {}).get("scoped", ())
        writable = {scope["entity"].get("name") for scope in scopes if "repo.write" in scope["permissions"]}
        namespaces = [name for name in namespaces if name in writable]
    if repo_id.split("/")[0] not in namespaces:
        raise HubError(
            f"{repo_id} does not exist, or is hidden from you, and this token of {account['name']} cannot create it: it may "
            f"create repositories of {', '.join(namespaces) or 'nobody'}"
        )


def commit_files(
    api: HfApi, repo_id: str, files: Mapping[str, bytes | Path], stale: Iterable[str], message: str, **options: Any
) -> CommitInfo:
    """Add `files`, path -> content or local file, and delete those `stale` paths that are not among them, as one commit.

    `upload_folder` would make several commits of a large folder: a push that breaks off would show half of it.

    Args:
        options: of HfApi.create_commit.
    """
    return api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(path, content) for path, content in files.items()),
            *(CommitOperationDelete(path) for path in stale if path not in files),
        ],
        commit_message=message,
        **options,
    )


@contextmanager
def hub_errors(failed: str, again: str = _AGAIN) -> Iterator[None]:
    """Raise `HubError` in place of each exception that the Hub's client raises inside the `with` block.

    Args:
        failed: what did not succeed, the beginning of the message: "could not push model to user/repo".
        again: what to do about a failure that may not last.
    """
    try:
        yield
    except HFValidationError as error:
        raise HubError(f"{failed}: {error}") from error
    except (HfHubHTTPError, httpx.TransportError, json.JSONDecodeError) as error:
        raise HubError(f"{failed}: {_reason(error, again)}") from error
    # of the Xet library, which uploads large files; it names the URL that failed
    except (ConnectionError, TimeoutError, PermissionError) as error:
        is_local = error.filename is not None  # a file of this machine, which no second attempt makes readable
        raise HubError(f"{failed}: {error}" if is_local else f"{failed}: {error}. {again}") from error
    except RuntimeError as error:  # the client raises it when it has tried an upload six times
        cause = error.__cause__
        if not isinstance(cause, (HfHubHTTPError, httpx.TransportError)):
            raise
        raise HubError(f"{failed}: {error} {_reason(cause, again)}") from error


def _reason(error: Exception, again: str) -> str:
    """What went wrong and what to do about it."""
    if isinstance(error, json.JSONDecodeError):  # the client parses some answers before it checks their status
        return f"the Hub answered with a page that is not JSON, as an overloaded gateway does. {again}"
    if not isinstance(error, HfHubHTTPError):
        return f"the connection to {constants.ENDPOINT} failed ({error}). {again}"
    status = error.response.status_code
    if status == 401:
        return "the Hub does not accept this token: run `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return f"this token may not write there ({error.server_message}): use one that may"
    reason = f"the Hub answered {status} ({error.server_message or 'no reason given'})."
    return f"{reason} {again}" if status in (408, 429) or status >= 500 else reason
