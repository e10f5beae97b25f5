"""A contact sheet of the live camera on the visitor's device: a face that sways, and where its box is at each moment.

python app.py &
python -m scripts.maintenance.sway_sheet http://127.0.0.1:7860 sheet.png
"""

import argparse
import io
import math
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import astronaut

from scripts.benchmarks.visiting import launch_chromium, write_frames
from scripts.command import errors_explained


FILM_FRAMES = 64

COLUMNS, ROWS = 4, 6
WIDTH = 320  # pixels of one picture on the sheet
BETWEEN_MS = 130  # beside the time that a screenshot takes: two seconds of film at least


def middle_of_face(frame: int) -> float:
    """Pixels from the left, in the film: it sways by up to a sixth of its width a frame."""
    return round(320 + 150 * math.sin(2 * math.pi * frame / FILM_FRAMES))


def swaying_film(path: Path) -> Path:
    """A portrait that sways. A row of six black or white squares says which frame it is."""
    portrait = Image.fromarray(astronaut()).crop((124, 20, 324, 220))
    frames = []
    for index in range(FILM_FRAMES):
        frame = Image.new("RGB", (640, 480), "#444")
        frame.paste(portrait, (int(middle_of_face(index)) - 100, 120))
        for bit in range(6):
            frame.paste("white" if index >> bit & 1 else "black", (40 * bit, 440, 40 * bit + 40, 480))
        frames.append(frame)
    return write_frames(path, frames)


def take_sheet(url: str, columns: int = COLUMNS, rows: int = ROWS) -> Image.Image:
    """What a visitor sees of the swaying face, in reading order. The film's squares say which of its frames is shown."""
    shots = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch_chromium(playwright, swaying_film(Path(folder) / "sway.mjpeg"))
        page = browser.new_context(permissions=["camera"], viewport={"width": 800, "height": 900}).new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        page.get_by_role("tab", name="Live camera").click()
        page.get_by_role("button", name="Start the camera").click()
        page.locator(".device-layer[data-faces='1'] .age").wait_for()
        stage = page.locator(".device-stage")
        for _ in range(columns * rows):
            shots.append(Image.open(io.BytesIO(stage.screenshot())).convert("RGB"))
            page.wait_for_timeout(BETWEEN_MS)
        browser.close()
    height = round(WIDTH * shots[0].height / shots[0].width)
    sheet = Image.new("RGB", (columns * WIDTH, rows * height))
    for index, shot in enumerate(shots):
        row, column = divmod(index, columns)
        sheet.paste(shot.resize((WIDTH, height), Image.Resampling.LANCZOS), (column * WIDTH, row * height))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running demo, or of a static site")
    parser.add_argument("output", type=Path, help="the picture to write")
    arguments = parser.parse_args()
    take_sheet(arguments.url).save(arguments.output, optimize=True)
    print(f"{arguments.output}: {arguments.output.stat().st_size // 1000} kB")


if __name__ == "__main__":
    with errors_explained():
        main()
