"""Every control of the page by the keyboard alone, and axe-core on every screen, in a real Chromium."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, reload, start_webcam, tab_to, visit


pytestmark = pytest.mark.slow


EVERYWHERE = ["Pictures", "Live camera", "About", "Use camera", "Options", "Use it in your programs"]
CONTROLS = {
    "first screen": [
        *EVERYWHERE,
        *("Choose photos", "Your photos are sent to this server, answered, and not kept."),
        *("An astronaut", "Several faces", "An admiral", "Turned away", "Dark and tilted", "A drawing"),
    ],
    "answer": [
        *EVERYWHERE,
        *("New picture", "Add pictures", "Download", "Share", "Enlarge"),
        *("Probability of each age range", "Saliency map"),
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
    for number in range(len(CONTROLS["first screen"]) - 8):
        tab_to(page, f".examples li:nth-child({number + 1})")
        page.keyboard.press("Enter")
        expect(page.locator(".annotated rect.box").first).to_be_visible()
        if not number:
            use_the_answer(page)
        reload(page)
    tab_to(page, "#footer button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("result = client.predict(")).to_be_visible()  # Gradio's own panel, with Python first


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

# What is less than 44 pixels high of all that is touched: of a radio button its label, and around a small one its halo.
LOW = """() => [...document.querySelectorAll(':is(.part, dialog) :is(button, summary, select, input), [role=tab]')]
  .filter(one => one.checkVisibility({visibilityProperty: true, opacityProperty: true}) || one.closest('label'))
  .map(one => (one.matches('[type=radio], [type=checkbox]') ? (one.closest('label') ?? one) : one))
  .filter(one => {
    const {height} = one.getBoundingClientRect()
    const halo = getComputedStyle(one, '::after')
    const around = halo.content !== 'none' && halo.position === 'absolute' ? -parseFloat(halo.top) - parseFloat(halo.bottom) : 0
    return height > 0 && height + Math.max(0, around) < 44
  }).map(one => one.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light", "dark on a phone"])
def test_page_is_accessible(browser: Browser, demo: DemoServer, portrait: Path, scheme: str, width: int):
    """axe-core finds nothing on any screen, in use; what is touched is 44 pixels high at least; nothing is too wide at 200 %."""
    viewport = {"width": width, "height": 844}
    with visit(browser, demo, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        found = {}

        def look(screen: str) -> None:
            assert page.evaluate(LOW) == [], screen
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
        page.locator(".example").nth(1).click()
        page.locator(".faces button.row").nth(1).click()
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Age ranges").select_option("Type your own")
        page.get_by_label("Your ranges").fill("0-17, 20+")
        grounds = page.locator(".options :is(select, input)").evaluate_all(
            "all => all.map(one => getComputedStyle(one).backgroundColor)"
        )
        assert len(set(grounds)) == 1, "a field that is typed into has the page's colours"
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
        expect(page.get_by_text("2 of 2 pictures", exact=True)).to_be_visible()
        look("two pictures")
        start_webcam(page)
        expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()
        look("live camera")
        page.get_by_role("tab", name="About").click()
        expect(page.locator("#about")).to_contain_text("a local folder")
        look("about")
        assert {screen: violations for screen, violations in found.items() if violations} == {}
