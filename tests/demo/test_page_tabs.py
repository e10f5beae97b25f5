"""The live camera, About, both languages and every control of the page, in a real Chromium."""

import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from demo.page import TEXTS
from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, log_in, reload, start_webcam, visit


pytestmark = pytest.mark.slow


def test_live_camera_finds_a_face_leaves_no_file_and_is_off_after_leaving(page: Page, demo: DemoServer):
    before = demo.stored_files()
    start_webcam(page)
    expect(page.locator("#overlay svg[data-faces='1'] text")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator("#server-live .hero-age")).to_be_visible()
    # The boxes are drawn in the frame's pixels: layer and video must cover each other exactly.
    rectangles = [page.locator(f"{name}").bounding_box() for name in ("#webcam video", "#overlay svg")]
    assert rectangles[0] == pytest.approx(rectangles[1], abs=1)
    # As in a mirror: she stands left of the camera's middle, so her box is right of it; but its text is not mirrored.
    mirrored = "name => new DOMMatrix(getComputedStyle(document.querySelector(name)).transform).a"
    assert [page.evaluate(mirrored, name) for name in ("#webcam video", "#overlay svg")] == [-1, 1]
    box = page.locator("#overlay rect.box").bounding_box()
    assert box["x"] + box["width"] / 2 > rectangles[0]["x"] + 0.51 * rectangles[0]["width"]
    page.evaluate("window.track = document.querySelector('#webcam video').srcObject.getTracks()[0]")
    assert page.evaluate("track.readyState") == "live"
    page.get_by_role("tab", name="About").click()
    page.wait_for_function("track.readyState === 'ended'")
    assert demo.stored_files() == before


def test_a_model_without_its_network_uses_the_server_and_the_log_says_what_to_run(page: Page, demo: DemoServer):
    page.get_by_role("tab", name="Live camera").click()
    told = page.get_by_text("This model is not prepared for browsers. So the model runs on the server.")
    expect(told).to_be_visible()
    expect(page.locator("#overlay").get_by_role("button", name="Start the camera")).to_be_visible()
    assert "Run `python -m scripts.export_onnx --model" in demo.log


def test_refused_live_camera_asks_once_and_can_be_started_again(page: Page):
    asked = []

    def refuse(route: Route) -> None:
        asked.append(route)
        route.fulfill(status=503, json={"detail": "The demo is busy."})

    page.route("**/queue/join*", refuse)
    start_webcam(page)
    expect(page.locator("#server-live").get_by_role("alert").filter(visible=True)).to_contain_text("the demo is busy")
    start = page.locator("#overlay").get_by_role("button", name="Start the camera")
    expect(start).to_be_visible()
    page.wait_for_timeout(1500)  # five frames
    assert len(asked) == 1
    page.unroute("**/queue/join*")
    start.click()
    expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()


def test_page_says_that_there_is_no_camera(browser: Browser, demo: DemoServer, portrait: Path):
    """As on the http address of another computer; a phone is offered its own camera program."""
    phone = {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
        "screen": {"width": 390, "height": 844},
    }
    with visit(browser, demo, **phone) as page:
        page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
        reload(page)
        page.get_by_role("button", name="Use camera").click()
        told = page.get_by_text("The camera does not start. Allow it in your browser").filter(visible=True)
        expect(told).to_have_count(1)
        for side in ("Back", "Front"):
            expect(page.get_by_role("button", name=f"{side} camera")).to_be_visible()
        choose(page, portrait, button="Front camera")
        expect(page.locator(".hero-age")).to_be_visible()
        start_webcam(page)
        expect(told).to_have_count(1)


def test_live_camera_says_that_its_time_is_over_and_that_it_waits(browser: Browser, demo: DemoServer, tmp_path: Path):
    limits = {"WEBCAM_SECONDS": "10", "WEBCAM_VIEWERS": "1"}
    with (
        DemoServer(tmp_path, MODEL_ID=demo.environment["MODEL_ID"], **limits) as short,
        visit(browser, short) as first,
        visit(browser, short) as second,
    ):
        start_webcam(first)
        expect(first.locator("#overlay svg[data-faces]")).to_be_visible()
        start_webcam(second)
        expect(second.get_by_text("All camera places are taken")).to_have_css("visibility", "visible")
        expect(first.locator("#server-live")).to_contain_text("The camera is off. It stops by itself after 10 seconds")
        expect(first.locator("#overlay svg rect")).to_have_count(0)
        expect(first.locator("#overlay").get_by_role("button", name="Start the camera")).to_be_visible()
        expect(second.locator("#overlay svg[data-faces]")).to_be_visible()
        expect(second.get_by_text("All camera places are taken")).to_be_hidden()
        second.locator("#overlay").get_by_role("button", name="Stop").click()
        expect(second.locator("#server-live")).to_contain_text("The camera is off")


def test_about_opens_with_figures_and_has_the_whole_card(page: Page, demo: DemoServer):
    folder = Path(demo.environment["MODEL_ID"])
    page.get_by_role("tab", name="About").click()
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    served = f"{folder.name} (a local folder, its weights' SHA-256 begins {digest[:12]})"
    expect(page.locator("#about")).to_contain_text(served)
    expect(page.locator("#about")).to_contain_text("Nothing was measured of this model")
    expect(page.locator("#about")).to_contain_text("Apache License 2.0")
    page.get_by_role("button", name="The whole model card").click()
    expect(page.locator("#card")).to_contain_text("Random weights")
    expect(page.locator("#card")).not_to_contain_text("license: other")
    expect(page.locator("#card img")).to_have_js_property("naturalWidth", 30)


def test_the_javascript_of_the_api_page_answers_as_pasted_into_the_console(page: Page, demo: DemoServer):
    snippets = httpx.get(f"{demo.url}/gradio_api/info").json()["named_endpoints"]["/predict"]["code_snippets"]
    console = page.context.new_cdp_session(page)
    with page.expect_console_message() as printed:
        pasted = {"expression": snippets["javascript"], "replMode": True, "awaitPromise": True}
        assert "exceptionDetails" not in console.send("Runtime.evaluate", pasted)
    [face] = json.loads(printed.value.text)
    assert face["box"] == pytest.approx([178, 66, 270, 177], abs=4)
    assert face["age_interval"][0] <= face["age"] <= face["age_interval"][1] + 1


def test_a_german_browser_reads_german_only(browser: Browser, demo: DemoServer, portrait: Path, two: Path):
    english = {text for key, text in TEXTS["en"].items() if TEXTS["de"][key] != text and len(text) > 3}
    said = """() => [document.body.innerText, document.title,
      ...[...document.querySelectorAll('[aria-label]')].map(one => one.ariaLabel)]"""
    with visit(browser, demo, locale="de-AT") as page:
        expect(page.get_by_role("tab", name="Über")).to_be_visible()
        expect(page).to_have_title(TEXTS["de"]["title"])
        first_screen = page.evaluate(said)
        page.locator(".example").first.click()
        expect(page.locator(".hero-age")).to_be_visible()
        answer = page.evaluate(said)
        assert page.evaluate("document.documentElement.lang") == "de"
        bad = portrait.with_name("bad.png")
        bad.write_bytes(b"not a picture")
        choose(page, two, bad, button="Bilder hinzufügen")
        expect(page.locator(".all-faces tbody tr")).to_have_count(4)
        several = page.evaluate(said)
        choose(page, bad, button="Neues Bild")
        expect(page.get_by_role("alert")).to_contain_text(TEXTS["de"]["error_picture"])
        error = page.evaluate(said)
        page.get_by_role("tab", name="Über").click()
        expect(page.locator("#about")).to_contain_text(TEXTS["de"]["about_unmeasured"])
        about = page.evaluate(said)
    parts = [*first_screen, *answer, *several, *error, *about]
    words = {line.strip() for part in parts for line in re.split(r"[\n\t]", part or "")}
    assert words & english == set()
    assert {"Wie alt sieht dieses Gesicht aus?", "Live-Kamera", "Jahre"} <= words
    assert {TEXTS["de"]["all_faces"], TEXTS["de"]["about_served"]} <= words


def test_visitor_logs_in_and_chooses_a_model(browser: Browser, guarded: DemoServer, portrait: Path):
    with visit(browser, guarded, extra_http_headers={"X-Forwarded-For": "192.0.2.20"}) as page:
        log_in(page)
        choose(page, portrait)
        expect(page.locator(".hero-age")).to_be_visible()
        shares = page.locator(".hero-gender")
        first = shares.inner_text() + page.locator(".curve").get_attribute("aria-label")
        page.get_by_text("Options", exact=True).click()
        with page.expect_response("**/page/answer") as answer:
            page.locator("#model").select_option("Second")
        assert answer.value.status == 200
        expect(page.locator(".busy")).to_have_count(0)
        assert shares.inner_text() + page.locator(".curve").get_attribute("aria-label") != first
        page.get_by_role("tab", name="About").click()
        expect(page.locator("#about")).to_contain_text("Second (a local folder")
        page.get_by_role("button", name="Choose another model").click()
        expect(page.locator("#model")).to_be_focused()
        page.locator("#model").select_option("First")
        expect(page.locator("#about")).to_contain_text("First (a local folder")
        page.locator("#model").select_option("Second")
        expect(page.locator("#about")).to_contain_text("Second (a local folder")
        page.get_by_role("button", name="The whole model card").click()
        expect(page.locator("#card")).to_contain_text("The second of two")
