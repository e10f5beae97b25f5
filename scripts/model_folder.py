"""The files of a model folder that go to the Hub, or all that keeps the folder from being pushed."""

import ast
import hashlib
import json
import re
from pathlib import Path

import yaml
from huggingface_hub.repocard import metadata_load
from safetensors import SafetensorError, safe_open


WEIGHTS = "model.safetensors"
REQUIRED = (
    "config.json",
    "preprocessor_config.json",
    WEIGHTS,
    "face_detection_yunet.onnx",
    "README.md",
    "metrics.json",
    "training_run.json",
)
OPTIONAL = ("handler.py", "figures/*.png", "figures/*.svg", "onnx/*.onnx")
AUTO_CLASSES = ("AutoConfig", "AutoModel")  # what `trust_remote_code` must find in config.json's auto_map
TASK = "age-gender-classification"
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")  # the Hub's user access tokens


class ModelFolderError(ValueError):
    """The folder cannot be pushed; the message lists everything that is missing or wrong."""


def files_to_push(folder: Path) -> list[Path]:
    """The folder's files that make up the model, relative to it and sorted; anything else in it stays at home.

    Raises:
        ModelFolderError: files are missing, metrics.json was computed for other weights, the card has no metadata or
            shows a figure that is not there, code is missing, or a file holds an access token.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is not a folder; give the one that training wrote, outputs/<run>")
    problems = [f"{name} is missing" for name in REQUIRED if not (folder / name).is_file()]
    code: set[str] = set()
    if (folder / "config.json").is_file():
        code, code_problems = _code_files(folder)
        problems += code_problems
    if (folder / WEIGHTS).is_file():
        problems += _weights_problems(folder)
    if (folder / "README.md").is_file():
        problems += _card_problems(folder)
    names = {*REQUIRED, *code, *_optional_files(folder)}
    for name in sorted(names):
        if name.endswith((".json", ".md", ".py")) and (folder / name).is_file():
            problems += [f"{name} holds an access token"] if TOKEN.search(_text(folder / name)) else []
    if problems:
        raise ModelFolderError(f"{folder} cannot be pushed:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return sorted(Path(name) for name in names)


def belongs_to_model(path: str) -> bool:
    """Whether a path in a repository is one that `files_to_push` could have put there."""
    is_code = path.endswith(".py") and "/" not in path
    return is_code or path in REQUIRED or any(Path(path).match(pattern) for pattern in OPTIONAL)


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
            if not weights.keys():
                return [f"{WEIGHTS} holds no weights"]
    except SafetensorError as error:
        return [f"{WEIGHTS} is not a whole safetensors file: {error}"]
    if not (folder / "metrics.json").is_file():
        return []
    try:
        measured = json.loads(_text(folder / "metrics.json")).get("weights_sha256")
    except json.JSONDecodeError as error:
        return [f"metrics.json is not JSON: {error}"]
    actual = sha256(folder / WEIGHTS)
    if measured == actual:
        return []
    of_what = f"of other weights ({str(measured)[:12]}..., not {actual[:12]}...)" if measured else "of unnamed weights"
    return [
        f"metrics.json holds figures {of_what}: run python -m scripts.evaluate_model --model {folder} --dataset ..."
    ]


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _card_problems(folder: Path) -> list[str]:
    try:
        metadata = metadata_load(folder / "README.md")
    except (ValueError, yaml.YAMLError) as error:
        return [f"README.md's metadata is not YAML: {error}"]
    problems = [] if metadata else ["README.md has no metadata (a YAML block between two lines of ---)"]
    shown = sorted(set(re.findall(r"\]\((?:\./)?(figures/[^)\s]+)", _text(folder / "README.md"))))
    return problems + [f"README.md shows {path}, which is missing" for path in shown if not (folder / path).is_file()]
