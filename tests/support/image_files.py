"""What the Dockerfile copies into the image, laid out in a folder, since there is no Docker to build it."""

import json
import re
import shutil
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def copied_paths() -> list[str]:
    """The sources of all COPY instructions that read the repository."""
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for sources in copies for source in sources.split()]


def lay_out(folder: Path) -> Path:
    """Fill `folder` with the image's /app; a path that .dockerignore holds back is an error, as it is for Docker."""
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    folder.mkdir()
    for source in copied_paths():
        if source not in allowed:
            raise FileNotFoundError(f".dockerignore holds back {source}, which the Dockerfile copies")
        if source.startswith("deploy/"):  # read while the image is built, and left behind
            continue
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder / source)
    return folder


def environment() -> dict[str, str]:
    """What ENV sets, the search path apart."""
    block = re.search(r"^ENV (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)[1]
    return dict(re.findall(r"(\w+)=(\S+)", block.replace("PATH=/venv/bin:$PATH", "")))


def health_command() -> list[str]:
    return json.loads(re.search(r"^HEALTHCHECK .*\\\n +CMD (.*)$", DOCKERFILE, re.MULTILINE)[1])
