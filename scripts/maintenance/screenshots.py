"""Screenshots of the running demo with its public-domain example picture: those of the README, or every view.

python app.py &
python -m scripts.maintenance.screenshots http://127.0.0.1:7860                      # the README's, into docs/screenshots
python -m scripts.maintenance.screenshots http://127.0.0.1:7860 --every /tmp/shots   # all views, wide and narrow, light and dark
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from scripts.benchmarks.browser import NoBrowser, launch_chromium, open_file_chooser, write_film


ROOT = Path(__file__).resolve().parents[2]
PORTRAIT = ROOT / "examples" / "astronaut.jpg"
FOLDER = ROOT / "docs" / "screenshots"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SIZES_WH = {"desktop": (1280, 900), "phone": (390, 844)}


def show_start(page: Page) -> None:
    page.locator("#introduction h1").wait_for()


def show_picture(page: Page) -> None:
    open_file_chooser(page, "#picture").set_files(PORTRAIT)
    page.locator("#cards .face-card img").wait_for()
    page.locator("#drawn img").wait_for()


def show_saliency(page: Page) -> None:
    page.get_by_label("Show saliency maps").check()
    open_file_chooser(page, "#picture").set_files(PORTRAIT)
    page.locator("#cards .saliency img").first.wait_for()


def show_no_face(page: Page) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), "olive").save(buffer, "PNG")
    picture = FilePayload(name="x.png", mimeType="image/png", buffer=buffer.getvalue())
    open_file_chooser(page, "#picture").set_files(picture)
    page.locator("#whole").wait_for()


def show_webcam(page: Page) -> None:
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#webcam").get_by_text("Start").click()
    page.locator("#overlay svg[data-faces='1']").wait_for()


def show_several(page: Page) -> None:
    page.get_by_role("tab", name="Several").click()
    open_file_chooser(page, "#pictures").set_files(PORTRAIT)
    page.locator("#pictures").get_by_text("astronaut").first.wait_for()
    page.locator("#start").click()
    page.locator("#table table").wait_for()


def show_about(page: Page) -> None:
    page.get_by_role("tab", name="About").click()
    page.locator("#about").get_by_text("Served here").wait_for()


VIEWS = {
    "start": show_start,
    "upload": show_picture,
    "saliency": show_saliency,
    "no_face": show_no_face,
    "webcam": show_webcam,
    "several": show_several,
    "about": show_about,
}
# name: view, size, colour scheme
README_SHOTS: dict[str, tuple[str, str, Scheme]] = {
    "upload": ("upload", "desktop", "light"),
    "webcam": ("webcam", "desktop", "light"),
    "several": ("several", "desktop", "light"),
    "about": ("about", "desktop", "light"),
    "upload_phone_dark": ("upload", "phone", "dark"),
}
EVERY_SHOT: dict[str, tuple[str, str, Scheme]] = {
    f"{view}_{size}_{scheme}": (view, size, scheme) for view in VIEWS for size in SIZES_WH for scheme in SCHEMES
}


def take(browser: Browser, url: str, view: str, size: str, scheme: Scheme) -> Image.Image:
    width, height = SIZES_WH[size]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        permissions=["camera"],
        reduced_motion="reduce",
    )
    page.goto(url)
    page.get_by_role("tab", name="About").wait_for()
    VIEWS[view](page)
    page.wait_for_timeout(1500)  # spinners fade, pictures settle
    shot = Image.open(io.BytesIO(page.screenshot(full_page=view != "about")))
    page.close()
    # 256 colours: a third of the size, and no difference to be seen
    return shot.convert("RGB").quantize(256, dither=Image.Dither.NONE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running demo")
    parser.add_argument("--every", type=Path, metavar="FOLDER", help="take every view there, not the README's")
    arguments = parser.parse_args()
    shots, target = (EVERY_SHOT, arguments.every) if arguments.every else (README_SHOTS, FOLDER)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        film = write_film(Path(folder) / "film.mjpeg", Image.open(PORTRAIT))
        browser = launch_chromium(playwright, film)
        for name, shot in shots.items():
            path = target / f"{name}.png"
            take(browser, arguments.url, *shot).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    try:
        main()
    except NoBrowser as error:
        sys.exit(str(error))
