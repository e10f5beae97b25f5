"""A demo in a process of its own, without limits, for the benchmarks that ask it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


ROOT = Path(__file__).resolve().parents[2]
WITHOUT_LIMITS = {"REQUESTS_PER_MINUTE": "1000000", "MB_PER_MINUTE": "1000000"}
SHOWN_LINES = 20  # of the log of a demo that has ended


class DemoEnded(RuntimeError):
    """The demo's process has ended by itself; the message holds the end of its log."""


class DemoProcess:
    """`url`: its address, which it may not answer yet."""

    def __init__(self, url: str, process: subprocess.Popen, log: Path):
        self.url, self._process, self._log = url, process, log

    def check_it_runs(self) -> None:
        """Raises `DemoEnded`."""
        if self._process.poll() is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            raise DemoEnded("\n".join([f"The demo ended with {self._process.returncode}:", *lines]))

    def wait_until_it_answers(self) -> None:
        """Raises `DemoEnded`."""
        while True:
            self.check_it_runs()
            try:
                httpx.get(self.url).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.05)


@contextmanager
def running_demo(model: str) -> Iterator[DemoProcess]:
    """A demo that has just been started, and is ended after the block. `model`: a folder or a Hub id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        log, files = Path(folder, "app.log"), Path(folder, "files")
        files.mkdir()
        environment = WITHOUT_LIMITS | {
            "MODEL_ID": model,
            "GRADIO_SERVER_PORT": port,
            "GRADIO_TEMP_DIR": str(files),
        }
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output
            ) as process,
        ):
            try:
                yield DemoProcess(f"http://127.0.0.1:{port}", process, log)
            finally:
                process.terminate()
