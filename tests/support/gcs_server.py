"""A Google Cloud Storage server on loopback (gcp-storage-emulator's), to which gs:// addresses lead while it runs."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scoring.storage import _file_system
from tests.support.s3_server import wait_for


@contextmanager
def gcs_server() -> Iterator[str]:
    """Its host and port; this process, and those that it starts, use it. It has an empty bucket, gs://pictures."""
    pytest.importorskip(
        "gcp_storage_emulator", reason="needs gcp-storage-emulator: pip install -r requirements-dev.txt"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = "from gcp_storage_emulator.__main__ import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", start, "start", "--in-memory", "--default-bucket", "pictures"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
                _file_system.cache_clear()  # it remembers the endpoint
                yield f"127.0.0.1:{port}"
        finally:
            _file_system.cache_clear()
            process.kill()
