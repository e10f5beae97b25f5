"""Check that the Hub can be written to, and turn the failures of its client into errors that say what to do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx, validate_repo_id

from model.errors import AgeGenderError


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


@contextmanager
def hub_errors(failed: str) -> Iterator[None]:
    """Raise `HubError` in place of each exception that the Hub's client raises inside the `with` block.

    Args:
        failed: what did not succeed, the beginning of the message: "could not push model to user/repo".
    """
    try:
        yield
    except HFValidationError as error:
        raise HubError(f"{failed}: {error}") from error
    except (HfHubHTTPError, httpx.TransportError, json.JSONDecodeError) as error:
        raise HubError(f"{failed}: {_reason(error)}") from error
    except RuntimeError as error:  # the client raises it when it has tried an upload six times
        cause = error.__cause__
        if not isinstance(cause, (HfHubHTTPError, httpx.TransportError)):
            raise
        raise HubError(f"{failed}: {error} {_reason(cause)}") from error


def _reason(error: Exception) -> str:
    """What went wrong and what to do about it."""
    again = "A commit is made whole or not at all: run the same command again to finish."
    if isinstance(error, json.JSONDecodeError):  # the client parses some answers before it checks their status
        return f"the Hub answered with a page that is not JSON, as an overloaded gateway does. {again}"
    if not isinstance(error, HfHubHTTPError):
        return f"the connection to {constants.ENDPOINT} failed ({error}). {again}"
    status = error.response.status_code
    if status == 401:
        return "the Hub does not accept this token: run `hf auth login`, or set HF_TOKEN to a token that may write"
    if status == 403:
        return f"this token may not write there ({error.server_message}): use one that may, or push with --create-pr"
    reason = f"the Hub answered {status} ({error.server_message or 'no reason given'})."
    return f"{reason} {again}" if status in (408, 429) or status >= 500 else reason
