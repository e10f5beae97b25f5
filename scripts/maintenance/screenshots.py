"""Screenshots of the running demo with its public-domain example pictures: those of the README, or every view.

python app.py &
python -m scripts.maintenance.screenshots http://127.0.0.1:7860                      # the README's, into docs/screenshots
python -m scripts.maintenance.screenshots http://127.0.0.1:7860 --every /tmp/shots   # all views, wide and narrow, light and dark
"""

import argparse
import io
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from scripts.benchmarks.made_up_pictures import PORTRAIT_FILE
from scripts.benchmarks.visiting import launch_chromium, open_file_chooser, picture_with_faces, write_film
from scripts.command import errors_explained


ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
FOLDER = ROOT / "docs" / "screenshots"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SIZES_WH = {"desktop": (1280, 900), "phone": (390, 844)}


def show_start(page: Page) -> None:
    page.wait_for_function("[...document.images].every(image => image.complete)")


def show_one_face(page: Page) -> None:
    open_file_chooser(page, "Choose photos").set_files(PORTRAIT_FILE)
    page.locator(".hero-age").wait_for()


def show_details(page: Page) -> None:
    show_one_face(page)
    page.get_by_text("Probability of each age range").click()
    page.get_by_text("Saliency map", exact=True).click()
    page.get_by_role("button", name="Show saliency maps").click()
    page.locator(".maps img").first.wait_for()
    page.get_by_text("Options", exact=True).click()


def show_group(page: Page) -> None:
    open_file_chooser(page, "Choose photos").set_files(jpeg("group.jpg", picture_with_faces(17)))
    page.locator(".face").nth(16).wait_for()


def show_several(page: Page) -> None:
    """Ten files, one of them no picture."""
    names = ["astronaut", "group", "admiral", "photographer", "dark", "child"]
    files = [jpeg(f"{name}.jpg", (EXAMPLES / f"{name}.jpg").read_bytes()) for name in names]
    copies = [jpeg(f"holiday {number}.jpg", files[number]["buffer"]) for number in range(3)]
    bad = jpeg("letter.pdf", b"%PDF-1.4")
    open_file_chooser(page, "Choose photos").set_files([*files, bad, *copies])
    page.get_by_text("10 of 10 pictures").wait_for()


def show_bad_file(page: Page) -> None:
    show_one_face(page)
    open_file_chooser(page, "New picture").set_files(jpeg("letter.jpg", b"not a picture"))
    page.get_by_role("alert").wait_for()


def show_no_face(page: Page) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480), "olive").save(buffer, "JPEG")
    open_file_chooser(page, "Choose photos").set_files(jpeg("x.jpg", buffer.getvalue()))
    page.get_by_text("No face found").first.wait_for()


def show_card(page: Page) -> None:
    show_one_face(page)
    page.get_by_role("button", name="Share", exact=True).click()
    page.locator(".card-preview[src]").wait_for()


def show_camera(page: Page) -> None:
    page.get_by_role("tab", name="Live camera").click()
    page.get_by_role("button", name="Start the camera").click()
    page.locator(".device-layer[data-faces='1'] .age").wait_for()


def show_camera_on_server(page: Page) -> None:
    page.get_by_role("tab", name="Live camera").click()
    page.get_by_label("On the server").check()
    page.get_by_role("button", name="Start the camera").click()
    page.locator("#overlay svg[data-faces='1']").wait_for()


def show_about(page: Page) -> None:
    page.get_by_role("tab", name="About").click()
    page.locator("#about .figures").wait_for()


def jpeg(name: str, content: bytes) -> FilePayload:
    return FilePayload(name=name, mimeType="image/jpeg", buffer=content)


VIEWS = {
    "start": show_start,
    "one_face": show_one_face,
    "details": show_details,
    "group": show_group,
    "several": show_several,
    "bad_file": show_bad_file,
    "no_face": show_no_face,
    "card": show_card,
    "camera": show_camera,
    "camera_on_server": show_camera_on_server,
    "about": show_about,
}
# name: view, size, colour scheme
README_SHOTS: dict[str, tuple[str, str, Scheme]] = {
    "start": ("start", "desktop", "light"),
    "details": ("details", "desktop", "light"),
    "group_phone": ("group", "phone", "light"),
    "camera": ("camera", "desktop", "light"),
    "card_dark": ("card", "desktop", "dark"),
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
        has_touch=size == "phone",
        is_mobile=size == "phone",
    )
    page.goto(url)
    page.get_by_role("button", name="Choose photos").wait_for()
    VIEWS[view](page)
    page.wait_for_timeout(1000)  # pictures settle
    shot = Image.open(io.BytesIO(page.screenshot(full_page=view != "card")))
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
        film = write_film(Path(folder) / "film.mjpeg", Image.open(PORTRAIT_FILE))
        browser = launch_chromium(playwright, film)
        for name, shot in shots.items():
            path = target / f"{name}.png"
            take(browser, arguments.url, *shot).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    with errors_explained():
        main()
