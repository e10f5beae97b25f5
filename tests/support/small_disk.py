"""A file system that is full soon, for tests of what a full disk does."""

import subprocess
from pathlib import Path

import pytest

from tests.support.training_runs import ENVIRONMENT, ROOT


def on_a_disk_of(size: str, folder: Path, script: str) -> subprocess.CompletedProcess:
    """Run `script` with a file system of its own of that size at `folder`/disk; skip the test where that is not allowed."""
    (folder / "disk").mkdir()
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs in a namespace of its own, which is not allowed here")
    script = f"set -e\nmount -t tmpfs -o size={size} none {folder}/disk\n{script}"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT
    )
