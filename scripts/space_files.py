"""The files of a Space that runs the demo: the code that app.py imports, assets, pinned requirements, front matter."""

import ast
import importlib.metadata
import sys
from pathlib import Path

from huggingface_hub import SpaceCardData
from huggingface_hub.repocard import metadata_load
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


ROOT = Path(__file__).resolve().parents[1]
APP = "app.py"
ASSETS = ("demo/*.css", "demo/*.js", "examples/*.jpg")
CARD = """\
---
{metadata}
---

# {title}

Guesses the age and the apparent gender of every face in a picture, with
[{model}](https://huggingface.co/{model}/tree/{revision}).

**It must not be used to decide anything about a person**, or on people who did not agree to it. The model's card says
what it was trained on, for whom it fails, and under which terms it may be used.

Deployed by `python -m scripts.deploy_space`. The Space's variables `MODEL_ID` and `MODEL_REVISION` choose the model.
"""


def space_files(model_id: str, revision: str, hardware: str | None = None) -> dict[str, bytes]:
    """Path -> content of all files of the Space: the code that app.py imports, its assets, requirements and front matter."""
    code, distributions = imported_code()
    paths = [*code, *(path for pattern in ASSETS for path in sorted(ROOT.glob(pattern)))]
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    files["requirements.txt"] = _pinned(distributions).encode()
    files["README.md"] = _card(model_id, revision, hardware).encode()
    return files


def imported_code() -> tuple[list[Path], set[str]]:
    """The repository's modules that app.py imports, directly or not, and the distributions that these import."""
    waiting, code, distributions = [ROOT / APP], set(), set()
    distributions_of = importlib.metadata.packages_distributions()
    while waiting:
        path = waiting.pop()
        if path in code:
            continue
        code.add(path)
        for module in _imported_modules(path):
            if module.split(".")[0] in sys.stdlib_module_names:
                continue
            files = _module_files(module)
            waiting += files
            if not files:
                distributions |= {canonicalize_name(name) for name in distributions_of[module.split(".")[0]]}
    return sorted(code), distributions


def _imported_modules(path: Path) -> set[str]:
    """Absolute names of what a module of the repository imports, but for what it tries to and can do without."""
    modules = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), filename=str(path))]
    while waiting:
        node = waiting.pop()
        waiting += [] if isinstance(node, ast.Try) else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[:-1][: len(path.relative_to(ROOT).parts) - node.level]
            modules.add(".".join((*package, node.module)) if node.level else node.module)
    return modules


def _module_files(module: str) -> list[Path]:
    """A module's file and its package's __init__.py; empty for a module from elsewhere."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return [file for file in (path, path.parent / "__init__.py") if file.is_file()]


def _pinned(distributions: set[str]) -> str:
    """requirements.txt with exactly the versions that are installed here, and the extras the repository asks for."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    stated = [Requirement(line) for line in lines if line and not line.startswith("#")]
    extras = {canonicalize_name(requirement.name): requirement.extras for requirement in stated}
    pinned = []
    for name in sorted(distributions):
        wanted = f"[{','.join(sorted(extras[name]))}]" if extras.get(name) else ""
        version = importlib.metadata.version(name).split("+")[0]  # without torch's +cpu
        pinned.append(f"{name}{wanted}=={version}\n")
    return "".join(pinned)


def _card(model_id: str, revision: str, hardware: str | None) -> str:
    metadata = SpaceCardData(**metadata_load(ROOT / "README.md"))
    metadata["sdk_version"] = importlib.metadata.version("gradio")
    metadata["models"] = [model_id]
    if hardware:
        metadata["suggested_hardware"] = hardware
    return CARD.format(metadata=metadata.to_yaml(), title=metadata["title"], model=model_id, revision=revision)


def belongs_to_demo(path: str) -> bool:
    """Whether an earlier deployment may have put a file there; others, a .gitattributes say, stay."""
    return path == APP or path.startswith(("demo/", "examples/", "model/"))
