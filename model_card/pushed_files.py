"""The files of a model folder that go to the Hub, or all that keeps the folder from being pushed."""

import ast
import json
import re
from pathlib import Path, PurePosixPath

import yaml
from huggingface_hub.repocard import metadata_load
from safetensors import SafetensorError, safe_open

from model.configuration_age_gender import TASK
from model.face_detection import YUNET_FILE
from model_card.number_check import unsupported_numbers
from model_card.requirements import COMPARISON, REQUIRED_FILES, WEIGHTS, card_problems, onnx_files


REQUIREMENTS = "requirements.txt"  # an endpoint installs what it names before it loads handler.py
WITH_CARD = (YUNET_FILE, "README.md")  # beside what the card is rendered from
REQUIRED = (*REQUIRED_FILES, *WITH_CARD)
OPTIONAL = ("handler.py", REQUIREMENTS, "figures/*.png", "figures/*.svg", "onnx/*.onnx", COMPARISON)
CARD_METADATA = ("license", "pipeline_tag", "tags", "model-index")
AUTO_CLASSES = ("AutoConfig", "AutoModel")  # what `trust_remote_code` must find in config.json's auto_map
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")  # the Hub's user access tokens


class ModelFolderError(ValueError):
    """The folder cannot be pushed; the message lists everything that is missing or wrong."""


def files_to_push(folder: Path) -> list[Path]:
    """The folder's files that make up the model, relative to it and sorted; anything else in it stays at home.

    Raises:
        ModelFolderError: files, code or what the card must state are missing, figures or ONNX files are of other weights,
            the card has no metadata, shows a figure that is not there or states a number that nobody measured, or a
            file holds an access token.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is not a folder; give the one that training wrote, outputs/<run>")
    problems = card_problems(folder)
    problems += [f"{name} is missing" for name in WITH_CARD if not (folder / name).is_file()]
    if (folder / "handler.py").is_file() and not (folder / REQUIREMENTS).is_file():
        problems.append(f"{REQUIREMENTS} is missing, without which handler.py cannot start: copy model/{REQUIREMENTS}")
    code: set[str] = set()
    if (folder / "config.json").is_file():
        code, code_problems = _code_files(folder)
        problems += code_problems
    if (folder / WEIGHTS).is_file():
        problems += _weights_problems(folder)
    if (folder / "README.md").is_file():
        problems += _readme_problems(folder)
        if not problems:
            numbers = unsupported_numbers(folder, _text(folder / "README.md"))
            problems += [f"README.md states {number}, which nothing in the folder measured" for number in numbers]
    names = {*REQUIRED, *code, *_optional_files(folder)}
    for name in sorted(names):
        if name.endswith((".json", ".md", ".py", ".txt")) and (folder / name).is_file():
            problems += [f"{name} holds an access token"] if TOKEN.search(_text(folder / name)) else []
    if problems:
        raise ModelFolderError(f"{folder} cannot be pushed:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return sorted(Path(name) for name in names)


def belongs_to_model(path: str) -> bool:
    """Whether a path in a repository is one that `files_to_push` could have put there."""
    is_code = path.endswith(".py") and "/" not in path
    # with a root before both, or a pattern would also match the end of a longer path
    is_optional = any(PurePosixPath(f"/{path}").match(f"/{pattern}") for pattern in OPTIONAL)
    return is_code or path in REQUIRED or is_optional


def _optional_files(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for pattern in OPTIONAL for p in folder.glob(pattern) if p.is_file()]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _code_files(folder: Path) -> tuple[set[str], list[str]]:
    """The modules config.json names and, transitively, the siblings they import; and what is wrong with them."""
    try:
        config = json.loads(_text(folder / "config.json"))
    except json.JSONDecodeError as error:
        return set(), [f"config.json is not JSON: {error}"]
    problems = []
    references = {name: config.get("auto_map", {}).get(name) for name in AUTO_CLASSES}
    references[TASK] = config.get("custom_pipelines", {}).get(TASK, {}).get("impl")
    for name, reference in references.items():
        if reference is None:
            problems.append(f"config.json names no class for {name}: save the folder through AgeGenderPipeline")
        elif "--" in reference:
            problems.append(f"config.json takes {name} from another repository, {reference}: save the code with it")
    waiting = {f"{ref.split('.')[0]}.py" for ref in references.values() if ref and "--" not in ref}
    code: set[str] = set()
    while waiting:
        name = waiting.pop()
        code.add(name)
        if not (folder / name).is_file():
            problems.append(f"{name} is missing")
            continue
        waiting |= {f"{module}.py" for module in _sibling_imports(folder / name)} - code
    return code, problems


def _sibling_imports(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(_text(path), filename=str(path)))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module}


def _weights_problems(folder: Path) -> list[str]:
    try:
        with safe_open(folder / WEIGHTS, framework="np") as weights:
            return [] if weights.keys() else [f"{WEIGHTS} holds no weights"]
    except SafetensorError as error:
        return [f"{WEIGHTS} is not a whole safetensors file: {error}"]


def _readme_problems(folder: Path) -> list[str]:
    """What the Hub would not show, or what may not be said, of README.md."""
    try:
        metadata = metadata_load(folder / "README.md")
    except (ValueError, yaml.YAMLError) as error:
        return [f"README.md's metadata is not YAML: {error}"]
    if not metadata:
        return ["README.md has no metadata (a YAML block between two lines of ---)"]
    again = "run python -m model_card.card again"
    problems = [f"README.md's metadata does not say {key!r}: {again}" for key in CARD_METADATA if not metadata.get(key)]
    if metadata.get("license", "other") != "other":  # weights are under the terms of the pictures they learnt from
        problems.append(f"README.md's metadata gives the licence {metadata['license']!r}, not 'other': {again}")
    text = _text(folder / "README.md")
    shown = sorted(set(re.findall(r"\]\((?:\./)?(figures/[^)\s]+)", text)))
    problems += [f"README.md shows {path}, which is missing" for path in shown if not (folder / path).is_file()]
    return problems + [f"README.md does not show {path}: {again}" for path in onnx_files(folder) if path not in text]
