"""A demo in a process of its own for the benchmarks that visit it, without limits unless they want them; and the machine's
Chromium, driven by Playwright: a film in place of its camera, files chosen as a visitor chooses them, and pictures with many
faces.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

from model.errors import AgeGenderError
from scripts.benchmarks.made_up_pictures import PORTRAIT_FILE


if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser, Page, Playwright

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_LIMITS = {"REQUESTS_PER_MINUTE": "1000000", "MB_PER_MINUTE": "1000000"}
SHOWN_LINES = 20  # of the log of a demo that has ended

PICTURE_WH = (1280, 720)
WEBGPU_FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class DemoEnded(AgeGenderError):
    """The demo's process has ended by itself; the message holds the end of its log."""


class DemoProcess:
    """`url`: its address, which it may not answer yet. `pid`: of its main process."""

    def __init__(self, url: str, process: subprocess.Popen, log: Path):
        self.url, self.pid, self._process, self._log = url, process.pid, process, log

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
def running_demo(model: str, with_limits: bool = False) -> Iterator[DemoProcess]:
    """A demo that has just been started, and is ended after the block.

    Args:
        model: a folder or a Hub id.
        with_limits: keep the demo's limits of each client.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        log, files = Path(folder, "app.log"), Path(folder, "files")
        files.mkdir()
        environment = ({} if with_limits else WITHOUT_LIMITS) | {
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


class NoBrowser(AgeGenderError):
    """There is no Chromium on the PATH."""


def launch_chromium(playwright: "Playwright", film: Path | None = None, with_webgpu: bool = False) -> "Browser":
    """
    Args:
        film: what the camera shows; see `write_film`.
        with_webgpu: WebGPU works, computed by SwiftShader on the processor.

    Raises:
        NoBrowser: none of `BROWSERS` is there.
    """
    executable = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if executable is None:
        raise NoBrowser(
            f"Expected one of {', '.join(BROWSERS)} on the path; found none. `make test` installs Chromium."
        )
    flags = ["--no-sandbox", *(WEBGPU_FLAGS if with_webgpu else ["--disable-gpu"])]
    if film:
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags.append(f"--use-file-for-fake-video-capture={film}")
    return playwright.chromium.launch(executable_path=executable, args=flags)


def write_film(path: Path, picture: Image.Image) -> Path:
    """Write a motion JPEG of 640 x 480 pixels with `picture` in the middle."""
    frame = Image.new("RGB", (640, 480), "#444")
    frame.paste(picture.resize((480, 480)), (80, 0))
    return write_frames(path, [frame] * 30)


def write_frames(path: Path, frames: Sequence[Image.Image]) -> Path:
    """Write a motion JPEG of these frames, which the camera repeats, 30 a second."""
    buffer = io.BytesIO()
    for frame in frames:
        frame.save(buffer, "JPEG", quality=92)
    path.write_bytes(buffer.getvalue())
    return path


def open_file_chooser(page: "Page", button: str) -> "FileChooser":
    """Click the visible button of this name; `set_files` of the result chooses files."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button, exact=True).click()
    return chooser.value


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The address of a static site while the block runs."""

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def __init__(self, *args: Any):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def picture_with_faces(faces: int) -> bytes:
    """A JPEG of 1280 x 720 pixels with the same portrait pasted `faces` times, as large as they all fit."""
    picture = Image.new("RGB", PICTURE_WH, "#888")
    width, height = PICTURE_WH
    sides = [width // columns for columns in range(1, faces + 1)] + [height // rows for rows in range(1, faces + 1)]
    side = max(side for side in sides if (width // side) * (height // side) >= faces)
    head = Image.open(PORTRAIT_FILE).crop((100, 0, 350, 250)).resize((side, side))
    for index in range(faces):
        row, column = divmod(index, width // side)
        picture.paste(head, (side * column, side * row))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
