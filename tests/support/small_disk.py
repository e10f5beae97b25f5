"""A small file system, for tests with a full disk."""

import subprocess
from pathlib import Path

import pytest

from tests.support.training_runs import ENVIRONMENT, ROOT


def on_a_disk_of(size: str, folder: Path, script: str) -> subprocess.CompletedProcess:
    """Run the shell script with a file system of this size at `folder`/disk. Skips the test where mounting is not allowed."""
    (folder / "disk").mkdir()
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs in a namespace of its own, which is not allowed here")
    script = f"set -e\nmount -t tmpfs -o size={size} none {folder}/disk\n{script}"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT
    )
