"""Choose the files of a model's folder that go to the Hub, or list all that keeps the folder from being pushed."""

import json
import re
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open
from transformers.dynamic_module_utils import get_relative_import_files

from model.configuration_age_gender import TASK
from model.errors import AgeGenderError
from model.face_detection import YUNET_FILE
from model.model_files import stays_inside
from model_card.requirements import CARD, COMPARISON, REQUIRED_FILES, WEIGHTS, card_problems


REQUIREMENTS = "requirements.txt"  # an Inference Endpoint installs these before it loads handler.py
REQUIRED = (*REQUIRED_FILES, YUNET_FILE)
OPTIONAL = ("handler.py", REQUIREMENTS, "figures/*.png", "figures/*.svg", "onnx/*.onnx", COMPARISON)
AUTO_CLASSES = ("AutoConfig", "AutoModel")  # what `trust_remote_code` must find in config.json's auto_map
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")  # the Hub's user access tokens


class ModelFolderError(AgeGenderError):
    """The folder cannot be pushed; the message lists everything that is missing or wrong."""


def files_to_push(folder: Path) -> list[Path]:
    """The folder's files that make up the model, relative to it and sorted; without the card, which a push renders.

    Raises:
        ModelFolderError: files, code or what the card states are missing, figures or ONNX files are of other weights, or
            a file holds an access token or is a link that leads out of the folder.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is not a folder; give the one that training wrote, outputs/<run>")
    problems = card_problems(folder)
    if not (folder / YUNET_FILE).is_file():
        problems.append(f"{YUNET_FILE} is missing")
    if (folder / "handler.py").is_file() and not (folder / REQUIREMENTS).is_file():
        problems.append(f"{REQUIREMENTS} is missing, without which handler.py cannot start: copy model/{REQUIREMENTS}")
    if (folder / WEIGHTS).is_file():
        problems += _weights_problems(folder)
    code: set[str] = set()
    if (folder / "config.json").is_file():
        code, code_problems = _find_code(folder)
        problems += code_problems
    optional = {path.relative_to(folder).as_posix() for pattern in OPTIONAL for path in folder.glob(pattern)}
    names = {*REQUIRED, *code, *optional}
    problems += [
        f"{name} is a link to a file outside the folder, which a push would publish: put the file itself there"
        for name in sorted(names)
        if (folder / name).is_file() and not stays_inside(folder / name, folder)
    ]
    problems += [f"{name} holds an access token" for name in sorted(names) if _holds_token(folder / name)]
    if problems:
        raise ModelFolderError(f"{folder} cannot be pushed:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return sorted(Path(name) for name in names)


def belongs_to_model(path: str) -> bool:
    """Whether a path in a repository is one that a push of a model could have put there."""
    is_code = path.endswith(".py") and "/" not in path
    # A slash before both: `match` compares from the right, and would accept the end of a longer path.
    is_optional = any(PurePosixPath(f"/{path}").match(f"/{pattern}") for pattern in OPTIONAL)
    return is_code or path in (*REQUIRED, CARD) or is_optional


def _find_code(folder: Path) -> tuple[set[str], list[str]]:
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
            module = folder / f"{reference.split('.')[0]}.py"
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
