"""The demo as its own process, as an operator starts it, with its log and temporary files within reach of a test."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from demo.cleaning_up import LOCK


ROOT = Path(__file__).resolve().parents[1]


class DemoServer:
    """`with DemoServer(folder, MODEL_ID=...) as demo:` serves until the block ends; `folder` receives log and files.

    `code`: where app.py lies. `python`: of the environment it runs in.
    """

    def __init__(self, folder: Path, code: Path = ROOT, python: str | Path = sys.executable, **environment: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._command, self._code = [str(python), "app.py"], code
        self.files, self._log = folder / "files", folder / "app.log"
        self.files.mkdir(exist_ok=True)
        temporary = {"GRADIO_TEMP_DIR": str(self.files), "TMPDIR": str(self.files)}
        self.environment = {"GRADIO_SERVER_PORT": str(port)} | temporary | environment

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stored_files(self) -> list[Path]:
        """Every file the demo has written and not yet deleted, but for its example picture and its lock."""
        own = ("astronaut.jpg", LOCK)
        return [path for path in self.files.rglob("*") if path.is_file() and path.name not in own]

    def __enter__(self) -> "DemoServer":
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._code,
                env=os.environ | self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(240):
            if self._process.poll() is not None:
                raise RuntimeError(f"the demo ended with {self._process.returncode}:\n{self.log}")
            try:
                httpx.get(self.url).raise_for_status()
                return self
            except httpx.HTTPError:
                time.sleep(0.5)
        self.__exit__()
        raise RuntimeError(f"the demo did not answer within 2 minutes:\n{self.log}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
