"""Screenshots of the running demo for the README, with the public-domain picture it ships.

python app.py &
python -m scripts.screenshots http://127.0.0.1:7860
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright


ROOT = Path(__file__).resolve().parents[1]
PORTRAIT = ROOT / "examples" / "astronaut.jpg"
FOLDER = ROOT / "docs" / "screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP, PHONE = (1280, 900), (390, 844)


def show_picture(page: Page) -> None:
    page.set_input_files("#picture input[type=file]", PORTRAIT)
    page.locator("#cards .face-card img").wait_for()
    page.locator("#drawn img").wait_for()


def show_webcam(page: Page) -> None:
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#webcam").get_by_text("Start").click()
    page.locator("#overlay svg[data-faces='1']").wait_for()


def show_several(page: Page) -> None:
    page.get_by_role("tab", name="Several").click()
    page.set_input_files("#pictures input[type=file]", [PORTRAIT])
    page.locator("#pictures").get_by_text("astronaut").first.wait_for()
    page.locator("#start").click()
    page.locator("#table table").wait_for()


def show_about(page: Page) -> None:
    page.get_by_role("tab", name="About").click()
    page.locator("#about").get_by_text("Served here").wait_for()


SHOTS = {
    "upload": (show_picture, DESKTOP, "light"),
    "webcam": (show_webcam, DESKTOP, "light"),
    "several": (show_several, DESKTOP, "light"),
    "about": (show_about, DESKTOP, "light"),
    "upload_phone_dark": (show_picture, PHONE, "dark"),
}


def take(browser: Browser, url: str, name: str) -> Path:
    show, (width, height), scheme = SHOTS[name]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        permissions=["camera"],
        reduced_motion="reduce",
    )
    page.goto(url)
    page.get_by_role("tab", name="About").wait_for()
    show(page)
    page.wait_for_timeout(1500)  # spinners fade, pictures settle
    shot = Image.open(io.BytesIO(page.screenshot(full_page=name != "about")))
    page.close()
    path = FOLDER / f"{name}.png"
    # 256 colours: a third of the size, and no difference to be seen
    shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def write_camera(path: Path) -> None:
    """A motion-JPEG film for Chromium's fake camera: the portrait, still, in 640 x 480."""
    frame, buffer = Image.new("RGB", (640, 480), "#444"), io.BytesIO()
    frame.paste(Image.open(PORTRAIT).resize((480, 480)), (80, 0))
    frame.save(buffer, "JPEG", quality=92)
    path.write_bytes(buffer.getvalue() * 30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running demo")
    url = parser.parse_args().url
    executable = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if executable is None:
        print(f"Expected one of {', '.join(BROWSERS)} on the path; found none. Install Chromium.", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        camera = Path(folder) / "camera.mjpeg"
        write_camera(camera)
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(
            executable_path=executable, args=[*arguments, f"--use-file-for-fake-video-capture={camera}"]
        )
        for name in SHOTS:
            path = take(browser, url, name)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
