"""Find the model's other files: in its folder, in its repository on the Hub, or beside this code."""

import re
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError
from transformers.utils import cached_file, logging

from .errors import AgeGenderError


logger = logging.get_logger(__name__)


class ModelFileError(AgeGenderError, FileNotFoundError):
    """A file of the model is missing or cannot be read."""


class HiddenRepositoryError(ModelFileError):
    """The Hub does not show the model's repository to this program."""


def fetch_file(name_or_path: str, file: str, revision: str | None) -> str:
    """The local path of `file`, downloaded first where `name_or_path` is a repository on the Hub.

    Raises:
        HiddenRepositoryError: the repository is private and the program is not logged in.
        ModelFileError: there is no such file, or the Hub cannot be reached.
    """
    path = _cached_file(name_or_path, file, revision)
    assert path is not None  # cached_file returns None only with the flags that `find_file` sets
    return path


def find_file(name_or_path: str, file: str, revision: str | None) -> str | None:
    """The local path of `file` from the folder or repository of the model, else from beside this code, else None."""
    found = None
    if name_or_path:
        no_error = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        try:
            found = _cached_file(name_or_path, file, revision, **no_error)
        except HiddenRepositoryError as error:
            logger.warning(str(error))
    beside = Path(__file__).with_name(file)
    return found or (str(beside) if beside.is_file() else None)


def revision_of_this_code() -> str | None:
    """The commit that this code was loaded from on the Hub, None for local code.

    transformers names the module after it and does not pass it to the pipeline otherwise.
    """
    parts = __name__.split(".")
    return parts[-2] if parts[0] == "transformers_modules" and re.fullmatch("[0-9a-f]{40}", parts[-2]) else None


def _cached_file(name_or_path: str, file: str, revision: str | None, **flags: bool) -> str | None:
    """transformers' `cached_file` with errors that fit a pipeline."""
    try:
        return cached_file(name_or_path, file, revision=revision, **flags)
    except OSError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            # cached_file's own message advises to give `pipeline` a token, but `pipeline` passes none to this code.
            raise HiddenRepositoryError(
                f"{file} of {name_or_path} cannot be read. If the repository is private, set HF_TOKEN or run "
                "`hf auth login`: a token given to `pipeline` only reaches the weights and the code."
            ) from error
        raise ModelFileError(f"{file} of {name_or_path} cannot be read: {error}") from error
