"""The demo as a process of its own, as an operator starts it; tests can read its log and its temporary files."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


ROOT = Path(__file__).resolve().parents[2]
# In what visitors send, in what they are answered, and in tracebacks. Lower case.
PRIVATE_WORDS = (
    *("private-name", "portrait", "astronaut", "dropped", "passwd", "secret"),
    *("looks", "female", "age_range", "years", "face found", "traceback"),
)


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
        self._own_files: set[Path] = set()
        temporary = {name: str(self.files) for name in ("GRADIO_TEMP_DIR", "TMPDIR", "HOME")}
        temporary["MPLCONFIGDIR"] = str(folder / "matplotlib")  # Gradio's: a list of fonts, which may stay
        self.environment = {"GRADIO_SERVER_PORT": str(port)} | temporary | environment

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def private_words_in_log(self) -> list[str]:
        log = self.log.lower()
        return [word for word in PRIVATE_WORDS if word in log]

    def stored_files(self) -> list[Path]:
        """Every file the demo has written since its start, there or at home, and not yet deleted."""
        return [path for path in self.files.rglob("*") if path.is_file() and path not in self._own_files]

    def __enter__(self) -> "DemoServer":
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._code,
                env=os.environ | self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        for _ in range(1200):
            if self._process.poll() is not None:
                raise RuntimeError(f"the demo ended with {self._process.returncode}:\n{self.log}")
            try:
                httpx.get(self.url).raise_for_status()
                self._own_files = set(self.files.rglob("*"))  # its lock, and an empty folder of Gradio's
                return self
            except httpx.HTTPError:
                time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"the demo did not answer within 2 minutes:\n{self.log}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
