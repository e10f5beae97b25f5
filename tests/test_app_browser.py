"""The demo's page in a real Chromium, with a fake camera that shows a public-domain portrait."""

import base64
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from skimage.data import astronaut

from scripts.browser import NoBrowser, launch_chromium, write_film
from tests.demo_server import DemoServer


pytestmark = pytest.mark.slow
PATIENCE_MS = 30_000  # on a busy machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    film = write_film(tmp_path_factory.mktemp("camera") / "film.mjpeg", Image.fromarray(astronaut()))
    with sync_playwright() as playwright:
        try:
            browser = launch_chromium(playwright, film)
        except NoBrowser as error:
            pytest.skip(str(error))
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, demo: DemoServer, **options: object) -> Iterator[Page]:
    """A visitor's page; what it asks of any other server is an error."""
    context = browser.new_context(permissions=["camera", "clipboard-read", "clipboard-write"], **options)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page, requests = context.new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(demo.url)
    yield page
    context.close()
    assert [url for url in requests if not url.startswith((demo.url, "data:", "blob:"))] == []


@pytest.fixture
def page(browser: Browser, demo: DemoServer) -> Iterator[Page]:
    with visit(browser, demo) as page:
        expect(page.get_by_role("tab", name="About")).to_be_visible()
        yield page


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(astronaut()).save(path)
    return path


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#picture input[type=file]", path)


def drop(page: Page, path: Path) -> None:
    """As dragged from the visitor's desktop onto the picture, or the place for one."""
    files = page.evaluate_handle(
        """data => {
          const files = new DataTransfer()
          const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0))
          files.items.add(new File([bytes], 'dropped.png', {type: 'image/png'}))
          return files
        }""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    page.dispatch_event("#picture .upload-container", "drop", {"dataTransfer": files})


def type_ranges(page: Page, where: str, ranges: str) -> None:
    page.locator(f"{where} input").fill(ranges)
    page.locator(f"{where} input").press("Enter")


def hold_first_question(page: Page) -> list[Route]:
    """The questions to the model from now on; the first waits for its `continue_()`, with all that was chosen by then."""
    asked = []

    def meet(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.route("**/queue/join*", meet)
    return asked


def start_webcam(page: Page) -> None:
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#webcam").get_by_text("Start").click()


def test_picture_is_boxed_and_has_a_card_in_any_ranges(page: Page, portrait: Path):
    expect(page.locator("#introduction")).to_contain_text("Never use it to decide anything about a person")
    upload(page, portrait)
    card = page.locator("#cards .face-card")
    expect(card).to_have_count(1)
    expect(card).to_contain_text(re.compile(r"Looks about \d+ years old.*Looks (fe)?male \(\d+% sure\)", re.DOTALL))
    expect(card.locator("li")).to_have_count(9)
    drawn = page.locator("#drawn img")
    expect(drawn).to_have_attribute("alt", re.compile(r"1 face found\. face 1: \d+ years, looks (fe)?male"))
    shown = Image.open(io.BytesIO(page.request.get(drawn.get_attribute("src")).body()))
    blue = np.abs(np.asarray(shown.convert("RGB"), int) - (0x0B, 0x62, 0xC4)).max(axis=2) < 30
    assert blue.sum() > 2000, "the box and its label in the first face's colour"

    page.locator("#picture-ranges input").click()
    page.get_by_role("option", name="4 bins").click()
    expect(card.locator("li")).to_have_count(4)
    type_ranges(page, "#picture-ranges", "0-17, 18+")
    expect(card.locator("li")).to_have_count(2)
    type_ranges(page, "#picture-ranges", "0-17, 20+")
    expect(page.locator("#notice")).to_contain_text("add 18-19")
    # at once: the model was asked for the picture, and not again for the ranges
    asked = page.evaluate("performance.getEntriesByType('resource').filter(r => r.name.includes('/queue/join')).length")
    assert asked == 1


def test_ranges_with_a_mistake_cost_no_answer(page: Page, portrait: Path):
    type_ranges(page, "#picture-ranges", "0-17, 20+")
    expect(page.locator("#notice")).to_contain_text("add 18-19")
    upload(page, portrait)
    expect(page.locator("#cards .face-card li")).to_have_count(9)
    expect(page.locator("#notice")).to_contain_text("add 18-19")
    type_ranges(page, "#picture-ranges", "0-17, 18+")
    expect(page.locator("#cards .face-card li")).to_have_count(2)
    expect(page.locator("#notice")).to_contain_text("1 face found")


def test_answer_is_to_what_was_chosen_last(page: Page, portrait: Path, tmp_path: Path):
    """What the visitor changes while the model works: nothing is lost, and nothing older comes after."""
    two = tmp_path / "two.png"
    Image.fromarray(np.hstack([astronaut(), astronaut()])).save(two)
    page.locator("#examples button").click()
    bars = page.locator("#cards .face-card li")
    expect(bars).to_have_count(9)
    asked = hold_first_question(page)
    page.locator("#show-looked input").check()
    type_ranges(page, "#picture-ranges", "0-17, 18+")
    expect(bars).to_have_count(2)  # without the model
    drop(page, two)
    expect(page.locator("#picture img")).to_have_attribute("src", re.compile("dropped.png"))
    type_ranges(page, "#picture-ranges", "0-17, 18-59, 60+")
    expect(page.locator("#picture-ranges input")).to_have_value("0-17, 18-59, 60+")
    assert len(asked) == 1
    asked[0].continue_()
    expect(page.locator("#cards .looked-at img")).to_have_count(4)
    expect(bars).to_have_count(6)
    assert len(asked) == 2


def test_ranges_changed_after_the_question_are_those_of_the_answer(page: Page, portrait: Path):
    upload(page, portrait)
    bars = page.locator("#cards .face-card li")
    expect(bars).to_have_count(9)
    asked = hold_first_question(page)
    page.locator("#show-looked input").check()
    type_ranges(page, "#picture-ranges", "0-17, 18+")
    expect(bars).to_have_count(2)
    asked[0].continue_()
    expect(page.locator("#cards .looked-at img")).to_have_count(2)
    expect(bars).to_have_count(2)
    assert len(asked) == 1


def test_picture_is_pasted_from_the_clipboard(page: Page, portrait: Path):
    data = base64.b64encode(portrait.read_bytes()).decode()
    page.evaluate(
        """async data => {
          const blob = await (await fetch('data:image/png;base64,' + data)).blob()
          await navigator.clipboard.write([new ClipboardItem({'image/png': blob})])
        }""",
        data,
    )
    page.get_by_label("Paste from clipboard").click()
    expect(page.locator("#cards .face-card")).to_have_count(1)


def test_snapshot_is_answered_and_the_camera_is_off_after_leaving(page: Page):
    page.get_by_label("Capture from camera").click()
    page.locator("#picture").get_by_text("Click to Access Webcam").click()
    page.locator("#picture video").wait_for()
    page.evaluate("window.track = document.querySelector('#picture video').srcObject.getTracks()[0]")
    page.get_by_role("tab", name="About").click()
    page.wait_for_function("track.readyState === 'ended'")
    page.get_by_role("tab", name="Picture").click()
    page.get_by_label("Capture from camera").click()
    page.locator("#picture").get_by_text("Click to Access Webcam").click()
    page.get_by_label("capture photo").click()
    expect(page.locator("#cards .face-card")).to_have_count(1)
    page.wait_for_function("!document.querySelector('#picture video')")


def test_picture_without_a_face_says_so_and_can_be_taken_as_one(page: Page, tmp_path: Path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 150), "olive").save(blank)
    upload(page, blank)
    expect(page.locator("#notice")).to_contain_text("No face was found")
    page.locator("#whole").click()
    expect(page.locator("#cards .face-card")).to_have_count(1)
    page.locator("#show-looked input").check()
    expect(page.locator("#cards .looked-at img")).to_have_count(2)  # still as one face


def test_several_pictures_become_one_table(page: Page, portrait: Path, tmp_path: Path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    page.get_by_role("tab", name="Several").click()
    expect(page.locator("#pictures")).to_contain_text("Up to 20 pictures of up to 20 MB each")
    page.set_input_files("#pictures input[type=file]", [portrait, bad])
    expect(page.locator("#pictures")).to_contain_text("bad")
    page.locator("#start").click()
    expect(page.locator("#table tbody tr")).to_have_count(2)
    expect(page.locator("#table tbody tr").nth(1)).to_contain_text("none of these")
    type_ranges(page, "#several-ranges", "0-116")
    expect(page.locator("#table tbody tr").first).to_contain_text("0+")
    with page.expect_download() as download:
        page.locator("#table a.download").click()
    table = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(table) == 3
    assert ",0+," in table[1]


def test_webcam_finds_a_face_leaves_no_file_and_is_off_after_leaving(page: Page, demo: DemoServer):
    before = demo.stored_files()
    start_webcam(page)
    expect(page.locator("#overlay svg[data-faces='1'] text").first).to_contain_text(re.compile(r"1 · \d+ years"))
    expect(page.locator("#live-cards .face-card")).to_have_count(1)
    # The boxes are drawn in the frame's pixels: layer and video must cover each other exactly.
    rectangles = [page.locator(f"{name}").bounding_box() for name in ("#webcam video", "#overlay svg")]
    assert rectangles[0] == pytest.approx(rectangles[1], abs=1)
    # As in a mirror: she stands left of the camera's middle, so her box is right of it; but its text is not mirrored.
    mirrored = "name => new DOMMatrix(getComputedStyle(document.querySelector(name)).transform).a"
    assert [page.evaluate(mirrored, name) for name in ("#webcam video", "#overlay svg", "#overlay text")] == [-1, 1, 1]
    x, width = (float(page.locator("#overlay .box").get_attribute(name)) for name in ("x", "width"))
    assert x + width / 2 > 330
    page.evaluate("window.track = document.querySelector('#webcam video').srcObject.getTracks()[0]")
    assert page.evaluate("track.readyState") == "live"
    page.get_by_role("tab", name="About").click()
    page.wait_for_function("track.readyState === 'ended'")
    assert demo.stored_files() == before


def test_demo_says_what_has_ended(browser: Browser, demo: DemoServer, portrait: Path, tmp_path: Path):
    """The webcam's time, its place among others, and the time for which a picture is kept."""
    limits = {"KEEP_SECONDS": "20", "WEBCAM_SECONDS": "10", "WEBCAM_VIEWERS": "1"}
    with (
        DemoServer(tmp_path, MODEL_ID=demo.environment["MODEL_ID"], **limits) as short,
        visit(browser, short) as first,
        visit(browser, short) as second,
    ):
        upload(first, portrait)
        expect(first.locator("#cards .face-card")).to_have_count(1)
        answered = time.monotonic()
        start_webcam(first)
        expect(first.locator("#overlay svg")).to_be_visible()
        start_webcam(second)
        expect(second.locator("#webcam-busy")).to_have_css("visibility", "visible")
        expect(first.locator("#live-cards")).to_contain_text("The webcam is off. It stops by itself after 10 seconds")
        expect(first.locator("#overlay svg")).to_have_count(0)
        expect(first.get_by_text("Click to Access Webcam")).to_be_visible()

        expect(second.locator("#overlay svg")).to_be_visible()
        expect(second.locator("#webcam-busy")).to_have_css("visibility", "hidden")
        second.locator("#webcam").get_by_text("Stop").click()
        expect(second.locator("#live-cards")).to_contain_text("The webcam is off")
        expect(second.locator("#overlay svg")).to_have_count(0)

        first.get_by_role("tab", name="Picture").click()
        first.wait_for_timeout(max(0, 1000 * (answered + 20 + 1 - time.monotonic())))
        type_ranges(first, "#picture-ranges", "0-17, 18+")
        expect(first.locator("#notice")).to_contain_text(
            "This picture has been deleted in the meantime. Choose it again."
        )
        expect(first.locator("#cards .face-card")).to_have_count(1)  # it is still there to read


def test_about_shows_the_card_with_its_figures(page: Page, demo: DemoServer):
    folder = Path(demo.environment["MODEL_ID"])
    page.get_by_role("tab", name="About").click()
    expect(page.locator("#about")).to_contain_text("Random weights")
    expect(page.locator("#about")).to_contain_text(f"Served here: {folder.name}, a local folder")
    expect(page.locator("#about")).not_to_contain_text("license: other")
    expect(page.locator("#about img")).to_have_js_property("naturalWidth", 30)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light", "dark on a phone"])
def test_page_is_accessible(browser: Browser, demo: DemoServer, portrait: Path, scheme: str, width: int):
    """axe-core finds nothing serious on any tab, in use; and the keyboard alone reaches the picture, a tab, and its content."""
    viewport = {"width": width, "height": 844}
    with visit(browser, demo, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        found = {}

        def look(tab: str) -> None:
            page.wait_for_timeout(500)  # what fades in has too little contrast until it is there
            found[tab] = [
                f"{violation['id']}: {violation['nodes'][0]['html']}"
                for violation in Axe().run(page).response["violations"]
                if violation["impact"] in ("serious", "critical")
            ]

        page.get_by_label("Show where the model looked").check()
        upload(page, portrait)
        expect(page.locator("#cards .looked-at img")).to_have_count(2)
        look("Picture")
        page.get_by_role("tab", name="Picture").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("tab", name="Webcam")).to_have_attribute("aria-selected", "true")
        look("Webcam")
        page.get_by_role("tab", name="Several").click()
        page.set_input_files("#pictures input[type=file]", [portrait])
        page.locator("#start").click()
        expect(page.locator("#table tbody tr")).to_have_count(1)
        look("Several")
        page.get_by_role("tab", name="About").click()
        expect(page.locator("#about")).to_contain_text("Served here")
        look("About")
        assert {tab: violations for tab, violations in found.items() if violations} == {}


def test_visitor_logs_in_and_chooses_a_model(browser: Browser, guarded: DemoServer, portrait: Path):
    with visit(browser, guarded, extra_http_headers={"X-Forwarded-For": "192.0.2.20"}) as page:
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        upload(page, portrait)
        card = page.locator("#cards .face-card")
        expect(card).to_have_count(1)
        first = card.inner_text()
        page.locator("#model input").click()
        page.get_by_role("option", name="Second").click()
        expect(card).not_to_have_text(first, use_inner_text=True)
        page.get_by_role("tab", name="About").click()
        expect(page.locator("#about")).to_contain_text("Served here: Second, a local folder")
        expect(page.locator("#about")).to_contain_text("The second of two")


def test_page_tells_who_asks_too_often(browser: Browser, guarded: DemoServer, portrait: Path):
    address = {"X-Forwarded-For": "192.0.2.21"}
    with visit(browser, guarded, extra_http_headers=address) as page:
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        page.get_by_role("tab", name="Picture").wait_for()
        for _ in range(40):
            httpx.post(f"{guarded.url}/login", data={"username": "ann", "password": "wrong"}, headers=address)
        told = r"Too many requests: at most 40 a minute\. Try again in \d+ seconds"
        upload(page, portrait)
        expect(page.get_by_text(re.compile(f"^HTTP 429: {told}")).first).to_be_visible()
        page.locator("#examples button").click()  # its file is there already: the question is what is refused
        expect(page.get_by_text(re.compile(f"^{told}")).first).to_be_visible()
