"""The other tabs in a real Chromium: webcam, several pictures, the model card; and the accessibility of the whole page."""

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.demo_server import DemoServer
from tests.support.visitors import drop, log_in, start_webcam, tab_to, type_ranges, upload, visit


pytestmark = pytest.mark.slow


def test_several_pictures_become_one_table(page: Page, portrait: Path, tmp_path: Path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    page.get_by_role("tab", name="Several").click()
    expect(page.locator("#pictures")).to_contain_text("Up to 20 pictures of up to 20 MB each")
    upload(page, portrait, bad, place="#pictures")
    expect(page.locator("#pictures")).to_contain_text("bad")
    page.locator("#start").click()
    expect(page.locator("#table tbody tr")).to_have_count(2)
    expect(page.locator("#table tbody tr").nth(1)).to_contain_text("none of these")
    type_ranges(page, "#several-ranges", "0-116")
    expect(page.locator("#table tbody tr").first.locator("td").nth(5)).to_have_text("0+")
    with page.expect_download() as download:
        page.locator("#table a.download").click()
    table = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert len(table) == 3
    assert ",0+," in table[1]
    picture = page.locator("#gallery img")
    small = picture.bounding_box()["width"]
    picture.click()
    assert picture.bounding_box()["width"] > 2 * small
    page.locator("#pictures").get_by_label("Clear").click()
    expect(picture).to_have_count(0)
    expect(page.locator("#table tr")).to_have_count(0)
    upload(page, portrait, place="#pictures")
    page.locator("#start").click()
    expect(page.locator("#table tbody tr")).to_have_count(1)


def choose_by_keyboard(page: Page, path: Path) -> None:
    page.get_by_role("tab", name="Several").focus()
    tab_to(page, "#pictures")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(path)


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda page, path: upload(page, path, place="#pictures"), id="mouse"),
        pytest.param(choose_by_keyboard, id="keyboard"),
        pytest.param(lambda page, path: drop(page, path, place="#pictures"), id="drag"),
    ],
)
def test_pictures_are_chosen_in_every_way(page: Page, portrait: Path, choose: Callable[[Page, Path], None]):
    page.get_by_role("tab", name="Several").click()
    choose(page, portrait)
    expect(page.locator("#pictures")).to_contain_text("portrait")
    page.locator("#start").click()
    expect(page.locator("#table tbody tr")).to_have_count(1)


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


def test_live_answer_follows_the_ranges(page: Page):
    start_webcam(page)
    bars = page.locator("#live-cards .face-card li")
    expect(bars).to_have_count(9)
    type_ranges(page, "#webcam-ranges", "0-17, 18+")
    expect(bars).to_have_count(2)
    type_ranges(page, "#webcam-ranges", "0-17, 20+")
    expect(page.locator("#live-cards")).to_contain_text("add 18-19")
    expect(bars).to_have_count(9)
    expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()


def test_a_model_without_its_network_uses_the_server_and_the_log_says_what_to_run(page: Page, demo: DemoServer):
    page.get_by_role("tab", name="Webcam").click()
    expect(
        page.get_by_text("This model is not prepared for browsers. So the model runs on the server.")
    ).to_be_visible()
    expect(page.get_by_text("Click to Access Webcam")).to_be_visible()
    assert "Run `python -m scripts.export_onnx --model" in demo.log


def test_refused_webcam_asks_once_and_can_be_started_again(page: Page):
    asked = []

    def refuse(route: Route) -> None:
        asked.append(route)
        route.fulfill(status=503, json={"detail": "The demo is busy."})

    page.route("**/queue/join*", refuse)
    start_webcam(page)
    expect(page.locator("#live-cards")).to_contain_text("No answer this time")
    expect(page.get_by_text("Click to Access Webcam")).to_be_visible()
    page.wait_for_timeout(1500)  # five frames
    assert len(asked) == 1
    expect(page.get_by_test_id("toast-body")).to_have_count(1)
    page.unroute("**/queue/join*")
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#webcam").get_by_text("Start").click()
    expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()


@pytest.mark.parametrize(
    "cause",
    [
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') }",
        "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})",
    ],
    ids=["refused", "http"],
)
def test_camera_that_does_not_start_says_why(page: Page, cause: str):
    page.add_init_script(cause)
    page.reload()
    told = page.get_by_text("The camera does not start. Allow it in your browser")
    expect(page.get_by_role("tab", name="About")).to_be_visible()
    expect(told.filter(visible=True)).to_have_count(0)
    for place, opened in (("#picture", page.get_by_label("Capture from camera")), ("#webcam", None)):
        if opened:
            opened.click()
        else:
            page.get_by_role("tab", name="Webcam").click()
        page.locator(place).get_by_text("Click to Access Webcam").click()
        expect(told.filter(visible=True)).to_have_count(1)


def test_demo_says_what_has_ended(browser: Browser, demo: DemoServer, portrait: Path, tmp_path: Path):
    """That the webcam's time is over, that it waits for a place, that the picture has been deleted."""
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
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    served = f"Served here: {folder.name}, a local folder, its weights' SHA-256 begins {digest[:12]}."
    expect(page.locator("#about")).to_contain_text(served)
    expect(page.locator("#about")).not_to_contain_text("license: other")
    expect(page.locator("#about img")).to_have_js_property("naturalWidth", 30)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light", "dark on a phone"])
def test_page_is_accessible(browser: Browser, demo: DemoServer, portrait: Path, scheme: str, width: int):
    """axe-core finds nothing serious on any tab, in use; and the keyboard alone reaches a tab."""
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

        page.get_by_label("Show saliency maps").check()
        upload(page, portrait)
        expect(page.locator("#cards .saliency img")).to_have_count(2)
        look("Picture")
        page.get_by_role("tab", name="Picture").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("tab", name="Webcam")).to_have_attribute("aria-selected", "true")
        start_webcam(page)
        expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()
        look("Webcam")
        page.get_by_role("tab", name="Several").click()
        upload(page, portrait, place="#pictures")
        page.locator("#start").click()
        expect(page.locator("#table tbody tr")).to_have_count(1)
        look("Several")
        page.get_by_role("tab", name="About").click()
        expect(page.locator("#about")).to_contain_text("Served here")
        look("About")
        assert {tab: violations for tab, violations in found.items() if violations} == {}


def test_visitor_logs_in_and_chooses_a_model(browser: Browser, guarded: DemoServer, portrait: Path):
    with visit(browser, guarded, extra_http_headers={"X-Forwarded-For": "192.0.2.20"}) as page:
        log_in(page)
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
