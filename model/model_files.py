"""Find the model's other files: in its folder, in its repository on the Hub, or beside this code."""

import math
import os
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoImageProcessor
from transformers.utils import cached_file, logging

from .errors import AgeGenderError


# What `pipeline` loads, beside the code that the model itself imports.
PIPELINE_FILES = (
    *("pipeline_age_gender.py", "decoding_age_gender.py", "exported_age_gender.py"),
    *("dataset_inputs.py", "image_loading.py", "image_formats.py", "image_decoding.py", "decoding_limits.py"),
    "image_colours.py",
    *("face_alignment.py", "face_detection.py", "face_network.py", "face_orientation.py", "face_search.py"),
    "face_detection_yunet.onnx",
    *("cascade_detection.py", "prepared_faces.py", "forked_processes.py"),
)
PREPROCESSING_FILE = "preprocessor_config.json"
# What transformers parses whole: of several config.*.json it takes the one of its version, if config.json says so.
PARSED_FILES = (
    *("config.json", "config.*.json", PREPROCESSING_FILE, "processor_config.json"),
    "*.safetensors.index.json",
)
MAX_SMALL_FILE_BYTES = 1_000_000
SECONDS_TO_ANSWER = 10  # of the Hub

logger = logging.get_logger(__name__)


class ModelFileError(AgeGenderError, FileNotFoundError):
    """A file of the model is missing or cannot be read."""


class ModelWeightsError(ModelFileError):
    """The weights are not those of the network that config.json describes, or hold NaN or Inf."""


class HiddenRepositoryError(ModelFileError):
    """The Hub does not show the model's repository to this program."""


MAX_LINE = 300  # characters of an error in another message


def one_line(error: Exception | str) -> str:
    """The message of any error as one line, cut to `MAX_LINE` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}..."


def stays_inside(path: Path, folder: Path) -> bool:
    """Whether a file of a model's folder lies in it, where links lead.

    A link out of the folder may name anything of the machine, which a card or a push would then publish. The folder of a
    commit in the Hub's cache holds links to the files beside it, and only such.
    """
    folder, real = folder.resolve(), path.resolve()
    in_cache = folder.parent.name == "snapshots" and real.is_relative_to(folder.parents[1] / "blobs")
    return real.is_relative_to(folder) or in_cache


def check_own_file(folder: str | os.PathLike, file: str) -> None:
    """
    Raises:
        ModelFileError: the file of a model's folder is a link out of it.
    """
    path = Path(folder, file)
    if path.is_file() and not stays_inside(path, Path(folder)):
        raise ModelFileError(f"{file} of {folder} is a link to a file outside that folder. Put the file itself there.")


def check_parsed_files(name_or_path: str | os.PathLike, revision: str | None = None, token: Any = None) -> None:
    """Look at the `PARSED_FILES` of a folder, or of a repository on the Hub, before one is read or downloaded.

    Raises:
        ModelFileError: one is too large, or a link out of the folder.
    """
    for file in check_sizes(name_or_path, PARSED_FILES, revision, token):
        check_own_file(name_or_path, file)


def check_sizes(
    name_or_path: str | os.PathLike, patterns: Sequence[str], revision: str | None = None, token: Any = None
) -> list[str]:
    """The files of a folder or repository that match a pattern. What cannot be listed has none: whoever loads it says why.

    Raises:
        ModelFileError: one has more than `MAX_SMALL_FILE_BYTES`.
    """
    folder = Path(name_or_path)
    sizes = _sizes_in(folder, patterns) if folder.is_dir() else _sizes_on_hub(str(name_or_path), revision, token)
    found = [file for file in sizes if any(fnmatchcase(file, pattern) for pattern in patterns)]
    for file in found:
        if sizes[file] > MAX_SMALL_FILE_BYTES:
            raise ModelFileError(
                f"{file} of {name_or_path} has {sizes[file]:,} bytes; at most {MAX_SMALL_FILE_BYTES:,} are read."
            )
    return found


def load_image_processor(name_or_path: str | os.PathLike, revision: str | None = None) -> Any:
    """The preprocessing of a model, without running code of its repository.

    Raises:
        ModelFileError: there is none, or it cannot be read.
    """
    check_parsed_files(name_or_path, revision)
    try:
        return AutoImageProcessor.from_pretrained(name_or_path, revision=revision or "main", trust_remote_code=False)
    except Exception as error:  # a damaged file fails in many ways
        raise ModelFileError(f"{PREPROCESSING_FILE} of {name_or_path} cannot be read: {one_line(error)}") from error


def check_image_processor(processor: Any) -> None:
    """
    Raises:
        ModelFileError: it does more with a crop than to scale and normalise its three channels.
    """
    mean, std = (getattr(processor, name, None) for name in ("image_mean", "image_std"))
    is_usual = all(
        isinstance(values, (list, tuple))
        and len(values) == 3
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
        for values in (mean, std)
    )
    if not is_usual or not all(std):  # type: ignore[arg-type]  # a list of numbers then
        raise ModelFileError(
            f"Expected three finite numbers each as image_mean and image_std in {PREPROCESSING_FILE}, the latter not 0; got "
            f"{one_line(repr(mean))} and {one_line(repr(std))}."
        )
    others = [name for name in ("do_center_crop", "do_pad") if getattr(processor, name, None)]
    if others:
        raise ModelFileError(f"Expected no {' and '.join(others)} in {PREPROCESSING_FILE}: faces are cut out already.")


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
        copy_unless_same(_file_beside(file) or _file_of_model(name_or_path, file, revision), Path(folder, file))
    if not Path(folder, PREPROCESSING_FILE).exists():
        copy_unless_same(_file_of_model(name_or_path, PREPROCESSING_FILE, revision), Path(folder, PREPROCESSING_FILE))


def follow_umask(folder: str | os.PathLike) -> None:
    """Give the weights in `folder` the permissions that the umask gives new files: safetensors writes for the owner only."""
    umask = os.umask(0o077)  # there is no other way to read it
    os.umask(umask)
    for path in Path(folder).glob("*.safetensors"):
        path.chmod(0o666 & ~umask)


def revision_of_this_code() -> str | None:
    """The commit that this code was loaded from on the Hub, None for local code.

    transformers names the module after it and does not pass it to the pipeline otherwise.
    """
    parts = __name__.split(".")
    return parts[-2] if parts[0] == "transformers_modules" and re.fullmatch("[0-9a-f]{40}", parts[-2]) else None


def _sizes_in(folder: Path, patterns: Sequence[str]) -> dict[str, int]:
    paths = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def _sizes_on_hub(repo_id: str, revision: str | None, token: Any) -> dict[str, int]:
    """As the Hub tells them; where it cannot be asked, of what is in the cache."""
    try:
        info = HfApi(token=token).model_info(repo_id, revision=revision, timeout=SECONDS_TO_ANSWER, files_metadata=True)
        return {file.rfilename: file.size or 0 for file in info.siblings or ()}
    except Exception:  # no connection, no repository, no id: it fails in many ways
        try:
            folder = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
        except Exception:
            return {}
    return _sizes_in(folder, ["**/*"])


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


def copy_unless_same(source: str | Path | None, target: Path) -> None:
    """Copy a file, unless there is none, or it lies there already."""
    if source and not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def _cached_file(name_or_path: str, file: str, revision: str | None, **flags: bool) -> str | None:
    """transformers' `cached_file` with errors that fit a pipeline."""
    check_own_file(name_or_path, file)
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
