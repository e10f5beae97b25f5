"""The file of weights in a model folder, and the hash by which figures name the weights they were computed for."""

import hashlib
from pathlib import Path


WEIGHTS = "model.safetensors"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
