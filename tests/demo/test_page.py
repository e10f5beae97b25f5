"""The Pictures tab in a real Chromium: one picture, from choosing it to its answer, its card and its copy."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from scripts.benchmarks.visiting import picture_with_faces
from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, copy_picture, drop, log_in, tab_to, visit


pytestmark = pytest.mark.slow


def by_keyboard(page: Page, path: Path) -> None:
    tab_to(page, ".zone-buttons")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(path)


def by_the_zone(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(".zone-icon").click()
    chooser.value.set_files(path)


def by_pasting(page: Page, path: Path) -> None:
    copy_picture(page, path)
    page.keyboard.press("Control+V")


def by_snapshot(page: Page, path: Path) -> None:
    page.get_by_role("button", name="Use camera").click()
    page.get_by_role("button", name="Take photo").click()


@pytest.mark.parametrize("bring", [choose, by_the_zone, by_keyboard, drop, by_pasting, by_snapshot])
def test_a_picture_comes_in_by_every_way(page: Page, portrait: Path, bring: Callable[[Page, Path], None]):
    bring(page, portrait)
    expect(page.locator(".hero-age")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator(".zone")).to_have_count(0)  # the picture stands in its place
    expect(page.locator(".annotated rect.box")).to_have_count(1)
    assert page.evaluate("navigator.mediaDevices.enumerateDevices().then(all => !document.querySelector('video'))")


def test_one_face_is_said_once_and_in_any_ranges(page: Page, portrait: Path):
    choose(page, portrait)
    hero = page.locator(".hero-age")
    expect(page.locator(".hero-interval")).to_have_text(re.compile(r"^likely \d+ to \d+$"))
    age = int(hero.inner_text())
    expect(page.locator(".hero-gender")).to_have_text(
        re.compile(r"^(Looks (fe)?male: \d+% confidence|Gender unsure: .*)$")
    )
    expect(page.get_by_text("For about 80% of faces")).to_have_count(1)
    picture = page.get_by_role("img", name=re.compile(rf"^1 face found\. Face 1: {age} years"))
    box = page.locator(".annotated rect.box").bounding_box()
    shown = picture.bounding_box()
    assert box["x"] > shown["x"] + 0.3 * shown["width"], "her face is in the middle of the picture"
    assert box["y"] + box["height"] < shown["y"] + 0.4 * shown["height"], "and in its upper part"

    page.get_by_text("Probability of each age range").click()
    bold = page.locator(".bars .best span").first
    low, high = map(int, bold.inner_text().replace("+", "-116").split("-"))
    assert low <= age <= high
    assert "0%" not in page.locator(".bars li:not(.best) span:last-child").all_inner_texts()
    page.get_by_text("Options", exact=True).click()
    ranges = page.get_by_label("Age ranges")
    assert not re.search("FairFace|DIT825", ranges.inner_text())
    ranges.select_option("Child / adult")
    expect(bold).to_have_text("18+" if age >= 18 else "0-17")
    ranges.select_option("Type your own")
    own = page.get_by_label("Your ranges")
    own.fill("0-17, 20+")
    expect(page.get_by_text("A range is missing: add 18-19")).to_be_visible()
    own.fill("0-116")
    expect(bold).to_have_text("0+")
    # the model was asked once, and nothing about it stays in the browser
    asked = page.evaluate(
        "performance.getEntriesByType('resource').filter(r => r.name.endsWith('/page/answer')).length"
    )
    assert asked == 1
    *stores, databases = page.evaluate(
        "async () => [{...localStorage}, {...sessionStorage}, await indexedDB.databases()]"
    )
    assert databases == []
    assert not re.search("portrait|predict|history|face|years", json.dumps(stores).lower()), stores


def test_several_faces_are_rows_linked_to_their_pins(page: Page, two: Path):
    choose(page, two)
    rows = page.locator(".faces button.row")
    expect(rows).to_have_count(2)
    expect(page.get_by_text("For about 80% of faces")).to_have_count(1)
    pins = page.locator(".annotated circle.pin")
    expect(pins).to_have_count(2)
    circles = pins.evaluate_all("pins => pins.map(pin => [pin.cx, pin.cy, pin.r].map(value => value.baseVal.value))")
    boxes = page.locator(".annotated rect.box").evaluate_all(
        "all => all.map(box => [box.x, box.y, box.width, box.height].map(value => value.baseVal.value))"
    )
    for x, y, radius in circles:
        for left, top, width, height in boxes:
            away = np.hypot(max(left - x, 0, x - left - width), max(top - y, 0, y - top - height))
            assert away >= radius, "no pin covers a face"
    assert circles[0][0] < circles[1][0], "numbered as one reads"
    second = page.locator('.annotated [data-face="1"]')
    rows.nth(1).hover()
    expect(second).to_have_class("marked")
    rows.nth(0).focus()
    expect(page.locator('.annotated [data-face="0"]')).to_have_class("marked")
    second.locator("rect.box").click()
    expect(rows.nth(1)).to_be_focused()
    expect(page.locator(".face").nth(1)).to_have_class(re.compile("marked"))
    page.keyboard.press("Enter")
    expect(page.locator(".face").nth(1).locator(".curve")).to_be_visible()
    expect(rows.nth(1)).to_have_attribute("aria-expanded", "true")
    # rows move into sight at once for those who want no motion
    page.evaluate(
        """() => {
          const scroll = Element.prototype.scrollIntoView
          window.scrolled = []
          Element.prototype.scrollIntoView = function (how) { scrolled.push(how.behavior); scroll.call(this, how) }
        }"""
    )
    for motion in ("reduce", "no-preference"):
        page.emulate_media(reduced_motion=motion)
        second.locator("rect.box").click()
    assert page.evaluate("scrolled") == ["instant", "smooth"]
    # 17 faces fit in two screens
    group = two.with_name("group.jpg")
    group.write_bytes(picture_with_faces(17))
    choose(page, group, button="New picture")
    expect(rows).to_have_count(17)
    for width, height in ((1280, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        expect(page.locator(".annotated circle.pin")).to_have_count(17)
        assert page.evaluate("document.documentElement.scrollHeight") <= 2 * height


def test_saliency_maps_are_made_on_demand(page: Page, portrait: Path):
    choose(page, portrait)
    page.get_by_text("Saliency map", exact=True).click()
    page.get_by_role("button", name="Show saliency maps").click()
    expect(page.get_by_role("img", name=re.compile("Pixels that matter"))).to_have_count(2)


def test_picture_without_a_face_can_be_answered_as_a_whole_without_a_promise(page: Page, tmp_path: Path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 150), "olive").save(blank)
    choose(page, blank)
    expect(page.get_by_role("heading", name="No face found")).to_be_visible()
    page.get_by_role("button", name="Treat the whole picture as one face").click()
    expect(page.locator(".hero-age")).to_be_visible()
    expect(page.get_by_text("No face was found here.")).to_be_visible()
    expect(page.get_by_text("1 face found")).to_have_count(0)
    expect(page.get_by_text("For about 80% of faces")).to_have_count(0)


def test_the_age_is_on_a_phones_first_screen(browser: Browser, demo: DemoServer, portrait: Path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with visit(browser, demo, **phone) as page:
        expect(page.get_by_text("drop them anywhere")).to_be_hidden()
        choose(page, portrait)
        age = page.locator(".hero-age")
        expect(age).to_be_in_viewport(ratio=1)
        assert 48 <= float(age.evaluate("age => parseFloat(getComputedStyle(age).fontSize)")) <= 64
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing is wider than the screen"


def test_page_tells_a_visitor_beyond_the_rate_limit(browser: Browser, guarded: DemoServer, portrait: Path):
    address = {"X-Forwarded-For": "192.0.2.21"}
    with visit(browser, guarded, extra_http_headers=address) as page:
        log_in(page)
        for _ in range(41):
            httpx.post(f"{guarded.url}/login", data={"username": "ann", "password": "wrong"}, headers=address)
        choose(page, portrait)
        expect(page.get_by_role("alert")).to_have_text(
            re.compile(r"You asked too often\. Try again in (\d+ seconds?|1 minute)\.")
        )


def test_the_first_load_is_small(browser: Browser, demo: DemoServer):
    """At most 500 kB, and a link preview that names the demo."""
    context = browser.new_context()
    page, sizes = context.new_page(), []
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    html = page.goto(demo.url).text()
    page.get_by_role("button", name="Choose photos").wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete)")
    context.close()
    assert sum(sizes) <= 500_000
    preview = dict(re.findall(r'<meta property="(og:[a-z]+)" content="([^"]*)"', html))
    assert preview["og:title"] == "How old does this face look?"
    assert "Gradio" not in str(preview)
    assert preview["og:url"] == demo.url
    assert Image.open(io.BytesIO(httpx.get(preview["og:image"]).content)).size == (1200, 630)
