"""The live camera, About, both languages and every control of the page, in a real Chromium."""

import hashlib
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from demo.texts import TEXTS
from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, log_in, start_webcam, tab_to, visit


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
    expect(page.get_by_text("Click to Access Webcam")).to_be_visible()
    assert "Run `python -m scripts.export_onnx --model" in demo.log


def test_refused_live_camera_asks_once_and_can_be_started_again(page: Page):
    asked = []

    def refuse(route: Route) -> None:
        asked.append(route)
        route.fulfill(status=503, json={"detail": "The demo is busy."})

    page.route("**/queue/join*", refuse)
    start_webcam(page)
    expect(page.locator("#server-live").get_by_role("alert").filter(visible=True)).to_contain_text("the demo is busy")
    expect(page.get_by_text("Click to Access Webcam")).to_be_visible()
    page.wait_for_timeout(1500)  # five frames
    assert len(asked) == 1
    page.unroute("**/queue/join*")
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#webcam").get_by_text("Start").click()
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
        page.get_by_role("tab", name="Live camera").click()
        page.get_by_text("Click to Access Webcam").click()
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
        expect(first.get_by_text("Click to Access Webcam")).to_be_visible()
        expect(second.locator("#overlay svg[data-faces]")).to_be_visible()
        expect(second.get_by_text("All camera places are taken")).to_be_hidden()
        second.locator("#webcam").get_by_text("Stop").click()
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


def test_a_german_browser_reads_german_only(browser: Browser, demo: DemoServer, portrait: Path):
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
    words = {line.strip() for part in [*first_screen, *answer] for line in (part or "").splitlines()}
    assert words & english == set()
    assert {"Wie alt sieht dieses Gesicht aus?", "Live-Kamera", "Jahre"} <= words


EVERYWHERE = ["Pictures", "Live camera", "About", "Use camera", "Use it in your programs"]
CONTROLS = {
    "first screen": [
        *EVERYWHERE,
        *("Choose photos", "Your photos are sent to this server, answered, and not kept."),
        *("An astronaut", "Several faces", "An admiral", "Turned away", "Dark and tilted", "A drawing"),
    ],
    "answer": [
        *EVERYWHERE,
        *("New picture", "Add pictures", "Download", "Share", "Enlarge"),
        *("Probability of each age range", "Saliency map", "Options"),
    ],
}


def visible_controls(page: Page) -> list[str]:
    names = page.evaluate(
        """() => [...document.querySelectorAll('button, a[href], summary, select, input, [tabindex="0"]')]
          .filter(one => one.checkVisibility({visibilityProperty: true}) && !one.closest('[aria-hidden=true]'))
          .map(one => (one.ariaLabel ?? one.innerText).trim())"""
    )
    return sorted(names)


def test_the_keyboard_alone_uses_every_control_of_the_first_two_screens(page: Page):
    """The list of what is visible is complete, and each control does what its name says."""
    assert visible_controls(page) == sorted(CONTROLS["first screen"])
    tab_to(page, ".notes summary")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The server reads a photo, answers, and forgets both")).to_be_visible()
    page.keyboard.press("Enter")
    for place in (".zone .main", ".zone-buttons .plain"):
        tab_to(page, place)
        if "main" in place:
            with page.expect_file_chooser():
                page.keyboard.press("Enter")
        else:
            page.keyboard.press("Enter")
            expect(page.get_by_role("button", name="Take photo")).to_be_enabled()
            page.keyboard.press("Escape")
            expect(page.locator("dialog")).to_have_count(0)
    for number in range(len(CONTROLS["first screen"]) - 7):
        tab_to(page, f".examples li:nth-child({number + 1})")
        page.keyboard.press("Enter")
        expect(page.locator(".annotated rect.box").first).to_be_visible()
        if not number:
            use_the_answer(page)
        reload(page)
    tab_to(page, "#footer button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("result = client.predict(")).to_be_visible()  # Gradio's own panel, with Python first


def reload(page: Page) -> None:
    """Load the page again, and wait until it is drawn to its end."""
    page.reload()
    page.get_by_role("button", name="Choose photos").wait_for()
    page.get_by_role("button", name="Use it in your programs").wait_for()


def use_the_answer(page: Page) -> None:
    assert visible_controls(page) == sorted(CONTROLS["answer"])
    for name in ("New picture", "Add pictures"):
        page.get_by_role("button", name=name).focus()
        with page.expect_file_chooser():
            page.keyboard.press("Enter")
    for name, opened in (("Use camera", "camera"), ("Share", "share"), ("Enlarge", "enlarged")):
        page.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press("Space")
        expect(page.locator(f"dialog.{opened}")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
    page.get_by_role("button", name="Download", exact=True).focus()
    with page.expect_download():
        page.keyboard.press("Enter")
    tab_to(page, ".details summary")
    page.keyboard.press("Enter")
    expect(page.locator(".bars li.best")).to_be_visible()
    tab_to(page, ".details details:nth-child(2) summary")
    page.keyboard.press("Enter")
    tab_to(page, ".details .plain")
    page.keyboard.press("Enter")
    expect(page.locator(".maps img")).to_have_count(2)
    page.locator(".options summary").focus()
    page.keyboard.press("Enter")
    tab_to(page, "#ranges")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#ranges")).not_to_have_value(re.compile("^0-2, 3-9"))
    for name in ("Live camera", "About", "Pictures"):
        page.get_by_role("tab", name=name).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")


IS_NARROW = "document.documentElement.scrollWidth <= innerWidth"  # no scrolling sideways


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light", "dark on a phone"])
def test_page_is_accessible(browser: Browser, demo: DemoServer, portrait: Path, scheme: str, width: int):
    """axe-core finds nothing on any screen, in use; what is touched is 44 pixels high at least; nothing is too wide at 200 %."""
    viewport = {"width": width, "height": 844}
    with visit(browser, demo, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        found = {}

        def look(screen: str) -> None:
            page.wait_for_timeout(400)  # what fades in has too little contrast until it is there
            violations = Axe().run(page).response["violations"]
            found[screen] = [f"{violation['id']}: {violation['nodes'][0]['html']}" for violation in violations]
            assert page.evaluate(IS_NARROW), screen
            # A zoom of 200 % leaves half of the pixels; pages need not fit into less than 320.
            page.set_viewport_size({"width": max(320, width // 2), "height": 422})
            page.wait_for_timeout(100)
            assert page.evaluate(IS_NARROW), f"{screen} at 200 %"
            page.set_viewport_size(viewport)

        page.get_by_role("button", name="Choose photos").wait_for()
        look("first screen")
        low = page.evaluate(
            """() => [...document.querySelectorAll('.part button, .part summary, [role=tab]')]
              .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 44).map(one => one.innerText)"""
        )
        assert low == []
        page.locator(".example").nth(1).click()
        page.locator(".faces button.row").nth(1).click()
        page.get_by_text("Options", exact=True).click()
        look("several faces")
        choose(page, portrait, button="New picture")
        page.get_by_text("Probability of each age range").click()
        page.get_by_text("Saliency map", exact=True).click()
        page.get_by_role("button", name="Show saliency maps").click()
        expect(page.locator(".maps img")).to_have_count(2)
        look("one face")
        page.get_by_role("button", name="Share", exact=True).click()
        expect(page.get_by_role("img", name="The share card")).to_have_js_property("naturalWidth", 1200)
        look("share")
        page.keyboard.press("Escape")
        choose(page, portrait, button="Add pictures")
        expect(page.get_by_text("2 of 2")).to_be_visible()
        look("two pictures")
        start_webcam(page)
        expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()
        look("live camera")
        page.get_by_role("tab", name="About").click()
        expect(page.locator("#about")).to_contain_text("a local folder")
        look("about")
        assert {screen: violations for screen, violations in found.items() if violations} == {}


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
        page.locator("#about-model input").click()
        page.get_by_role("option", name="Second").click()
        expect(page.locator("#about")).to_contain_text("Second (a local folder")
        page.get_by_role("button", name="The whole model card").click()
        expect(page.locator("#card")).to_contain_text("The second of two")
