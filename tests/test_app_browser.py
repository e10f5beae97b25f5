"""The demo's page in a real Chromium, with a fake camera that shows a public-domain portrait."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from skimage.data import astronaut

from tests.demo_server import DemoServer


pytestmark = pytest.mark.slow
PATIENCE_MS = 30_000  # on a busy machine
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if executable is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    camera = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    frame = io.BytesIO()
    Image.fromarray(np.pad(astronaut()[:480], ((0, 0), (64, 64), (0, 0)))).save(frame, "JPEG")
    camera.write_bytes(frame.getvalue() * 30)
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, demo: DemoServer) -> Iterator[Page]:
    """The page as it first appears; what it asks of any other server is an error."""
    context = browser.new_context(permissions=["camera"])
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page, requests = context.new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(demo.url)
    expect(page.get_by_role("tab", name="About")).to_be_visible()
    yield page
    context.close()
    assert [url for url in requests if not url.startswith((demo.url, "data:", "blob:"))] == []


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(astronaut()).save(path)
    return path


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#picture input[type=file]", path)


def test_picture_is_boxed_and_has_a_card_in_any_ranges(page: Page, portrait: Path):
    expect(page.locator("#introduction")).to_contain_text("Never use it to decide anything about a person")
    upload(page, portrait)
    card = page.locator("#cards .face-card")
    expect(card).to_have_count(1)
    expect(card).to_contain_text(re.compile(r"Looks about \d+ years old.*Looks (fe)?male \(\d+%\)", re.DOTALL))
    expect(card.locator("li")).to_have_count(9)
    drawn = page.locator("#drawn img")
    expect(drawn).to_have_attribute("alt", re.compile(r"1 face found\. face 1: \d+ years, looks (fe)?male"))
    shown = Image.open(io.BytesIO(page.request.get(drawn.get_attribute("src")).body()))
    blue = np.abs(np.asarray(shown.convert("RGB"), int) - (0x0B, 0x62, 0xC4)).max(axis=2) < 30
    assert blue.sum() > 2000, "the box and its label in the first face's colour"

    ranges = page.locator("#picture-ranges input")
    ranges.fill("0-17, 18+")
    ranges.press("Enter")
    expect(card.locator("li")).to_have_count(2)
    ranges.fill("0-17, 20+")
    ranges.press("Enter")
    expect(page.locator("#notice")).to_contain_text("add 18-19")


def test_picture_without_a_face_says_so_and_can_be_taken_as_one(page: Page, tmp_path: Path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 150), "olive").save(blank)
    upload(page, blank)
    expect(page.locator("#notice")).to_contain_text("No face was found")
    page.locator("#whole").click()
    expect(page.locator("#cards .face-card")).to_have_count(1)


def test_several_pictures_become_one_table(page: Page, portrait: Path, tmp_path: Path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    page.get_by_role("tab", name="Several").click()
    page.set_input_files("#pictures input[type=file]", [portrait, bad])
    expect(page.locator("#pictures")).to_contain_text("bad")
    page.locator("#start").click()
    expect(page.locator("#table tbody tr")).to_have_count(2)
    expect(page.locator("#table tbody tr").nth(1)).to_contain_text("none of these")
    with page.expect_download() as download:
        page.locator("#table a.download").click()
    assert len(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()) == 3


def test_webcam_finds_a_face_leaves_no_file_and_is_off_after_leaving(page: Page, demo: DemoServer):
    before = demo.stored_files()
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#webcam").get_by_text("Start").click()
    expect(page.locator("#overlay svg[data-faces='1'] text").first).to_contain_text(re.compile(r"1 · \d+ years"))
    expect(page.locator("#live-cards .face-card")).to_have_count(1)
    # The boxes are drawn in the frame's pixels: layer and video must cover each other exactly.
    rectangles = [page.locator(f"{name}").bounding_box() for name in ("#webcam video", "#overlay svg")]
    assert rectangles[0] == pytest.approx(rectangles[1], abs=1)
    page.evaluate("window.track = document.querySelector('#webcam video').srcObject.getTracks()[0]")
    assert page.evaluate("track.readyState") == "live"
    page.get_by_role("tab", name="About").click()
    page.wait_for_function("track.readyState === 'ended'")
    assert demo.stored_files() == before


def test_about_shows_the_card_with_its_figures(page: Page, demo: DemoServer):
    folder = Path(demo.environment["MODEL_ID"])
    page.get_by_role("tab", name="About").click()
    expect(page.locator("#about")).to_contain_text("Random weights")
    expect(page.locator("#about")).to_contain_text(f"Served here: {folder.name}, a local folder")
    expect(page.locator("#about")).not_to_contain_text("license: other")
    expect(page.locator("#about img")).to_have_js_property("naturalWidth", 30)
