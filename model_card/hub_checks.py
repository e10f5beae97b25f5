"""What keeps something from going to the Hub: found before the work is done, and said with what to do."""

from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


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
