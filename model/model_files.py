"""Find the model's other files: in its folder, in its repository on the Hub, or beside this code."""

import os
import re
import shutil
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError
from transformers.utils import cached_file, logging

from .errors import AgeGenderError


# What `pipeline` loads, beside the code that the model itself imports.
PIPELINE_FILES = (
    *("pipeline_age_gender.py", "decoding_age_gender.py", "exported_age_gender.py"),
    *("dataset_inputs.py", "image_loading.py", "image_decoding.py", "decoding_limits.py", "image_colours.py"),
    *("face_alignment.py", "face_detection.py", "face_detection_yunet.onnx"),
)
PREPROCESSING_FILE = "preprocessor_config.json"

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
    return _file_of_model(name_or_path, file, revision) or _file_beside(file)


def copy_pipeline_files(name_or_path: str, folder: str | os.PathLike, revision: str | None) -> None:
    """Complete a folder that the model was saved to, so that `pipeline` loads it: code, YuNet's weights, preprocessing.

    Code comes from beside this code, with which it works, and only else from `name_or_path`, as the preprocessing does:
    that belongs to the weights.
    """
    for file in PIPELINE_FILES:
        _copy(_file_beside(file) or _file_of_model(name_or_path, file, revision), Path(folder, file))
    if not Path(folder, PREPROCESSING_FILE).exists():
        _copy(_file_of_model(name_or_path, PREPROCESSING_FILE, revision), Path(folder, PREPROCESSING_FILE))


def revision_of_this_code() -> str | None:
    """The commit that this code was loaded from on the Hub, None for local code.

    transformers names the module after it and does not pass it to the pipeline otherwise.
    """
    parts = __name__.split(".")
    return parts[-2] if parts[0] == "transformers_modules" and re.fullmatch("[0-9a-f]{40}", parts[-2]) else None


def _file_of_model(name_or_path: str, file: str, revision: str | None) -> str | None:
    if not name_or_path:
        return None
    no_error = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    try:
        return _cached_file(name_or_path, file, revision, **no_error)
    except HiddenRepositoryError as error:
        logger.warning(str(error))
        return None


def _file_beside(file: str) -> str | None:
    beside = Path(__file__).with_name(file)
    return str(beside) if beside.is_file() else None


def _copy(source: str | None, target: Path) -> None:
    if source and not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


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
