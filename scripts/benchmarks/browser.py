"""The machine's Chromium, driven by Playwright: a film in place of its camera, files chosen as a visitor chooses them, and
pictures with many faces."""

import io
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image


if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser, Page, Playwright


ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "examples" / "astronaut.jpg"
PICTURE_WH = (1280, 720)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoBrowser(RuntimeError):
    """There is no Chromium on the PATH."""


def launch_chromium(playwright: "Playwright", film: Path | None = None) -> "Browser":
    """
    Args:
        film: what the camera shows; see `write_film`.

    Raises:
        NoBrowser: none of `BROWSERS` is there.
    """
    executable = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if executable is None:
        raise NoBrowser(
            f"Expected one of {', '.join(BROWSERS)} on the path; found none. `make test` installs Chromium."
        )
    flags = ["--no-sandbox", "--disable-gpu"]
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
    head = Image.open(PORTRAIT).crop((100, 0, 350, 250)).resize((side, side))
    for index in range(faces):
        row, column = divmod(index, width // side)
        picture.paste(head, (side * column, side * row))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
