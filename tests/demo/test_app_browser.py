"""The Picture tab in a real Chromium: visitors see the answers to their own pictures, and nobody else's."""

import base64
import io
import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from skimage.data import astronaut

from tests.support.demo_server import DemoServer
from tests.support.visitors import drop, hold_first_question, log_in, tab_to, type_ranges, upload, visit


pytestmark = pytest.mark.slow


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two portraits in one picture."""
    path = tmp_path / "two.png"
    Image.fromarray(np.hstack([astronaut(), astronaut()])).save(path)
    return path


def test_picture_is_boxed_and_has_a_card_in_any_ranges(page: Page, portrait: Path):
    expect(page.locator("#introduction")).to_contain_text("Never use it to decide anything about a person")
    upload(page, portrait)
    card = page.locator("#cards .face-card")
    expect(card).to_have_count(1)
    expect(card).to_contain_text(
        re.compile(r"Looks about \d+ years old.*Looks (fe)?male \(\d+% confidence\)", re.DOTALL)
    )
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
    # nothing about it stays in the browser
    *stores, databases = page.evaluate(
        "async () => [{...localStorage}, {...sessionStorage}, await indexedDB.databases()]"
    )
    assert databases == []
    assert not re.search("portrait|predict|history|face|years", json.dumps(stores).lower()), stores
    # the model was asked once, for the picture, and not again for the ranges
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


def test_answer_is_to_what_was_chosen_last(page: Page, two: Path):
    """Changes that a visitor makes while the model is at work are not lost, and no earlier answer replaces a later one."""
    page.locator("#examples button").click()
    bars = page.locator("#cards .face-card li")
    expect(bars).to_have_count(9)
    asked = hold_first_question(page)
    page.locator("#show-saliency input").check()
    type_ranges(page, "#picture-ranges", "0-17, 18+")
    expect(bars).to_have_count(2)  # without the model
    drop(page, two)
    expect(page.locator("#picture img")).to_have_attribute("src", re.compile("two.png"))
    type_ranges(page, "#picture-ranges", "0-17, 18-59, 60+")
    expect(page.locator("#picture-ranges input")).to_have_value("0-17, 18-59, 60+")
    assert len(asked) == 1
    asked[0].continue_()
    expect(page.locator("#cards .saliency img")).to_have_count(4)
    expect(bars).to_have_count(6)
    assert len(asked) == 2


def test_ranges_changed_after_the_question_are_those_of_the_answer(page: Page, portrait: Path):
    upload(page, portrait)
    bars = page.locator("#cards .face-card li")
    expect(bars).to_have_count(9)
    asked = hold_first_question(page)
    page.locator("#show-saliency input").check()
    type_ranges(page, "#picture-ranges", "0-17, 18+")
    expect(bars).to_have_count(2)
    asked[0].continue_()
    expect(page.locator("#cards .saliency img")).to_have_count(2)
    expect(bars).to_have_count(2)
    assert len(asked) == 1


def test_a_refused_question_leaves_no_answer_to_another_picture(page: Page, portrait: Path):
    def refuse_once() -> None:
        page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "busy"}), times=1)

    card, notice, again = (page.locator(name) for name in ("#cards .face-card", "#notice", "#again"))
    upload(page, portrait)
    expect(card).to_have_count(1)
    expect(again).to_be_hidden()
    refuse_once()
    page.locator("#examples button").click()
    expect(notice).to_contain_text("No answer this time")
    expect(card).to_have_count(0)
    expect(page.locator("#drawn img")).to_have_count(0)
    type_ranges(page, "#picture-ranges", "0-17, 18+")  # asks anew
    expect(card.locator("li")).to_have_count(2)
    refuse_once()
    page.get_by_label("Show saliency maps").check()
    expect(notice).to_contain_text("No answer this time")
    expect(card).to_have_count(1)  # this picture's own
    again.click()
    expect(page.locator("#cards .saliency img")).to_have_count(2)
    expect(again).to_be_hidden()


def test_visitors_see_nothing_of_each_other(browser: Browser, demo: DemoServer, portrait: Path, two: Path):
    with visit(browser, demo) as first, visit(browser, demo) as second:
        asked = hold_first_question(first)
        with first.expect_request("**/queue/join*"):
            upload(first, portrait)
        upload(second, two)
        expect(second.locator("#cards .face-card")).to_have_count(2)
        asked[0].continue_()
        expect(first.locator("#cards .face-card")).to_have_count(1)
        type_ranges(second, "#picture-ranges", "0-17, 18+")
        type_ranges(first, "#picture-ranges", "0-17, 18-39, 40+")
        for page, faces, bars in ((first, 1, 3), (second, 2, 4)):
            expect(page.locator("#cards .face-card li")).to_have_count(bars)
            expect(page.locator("#cards .face-card")).to_have_count(faces)
            expect(page.locator("#drawn img")).to_have_attribute("alt", re.compile(f"{faces} faces? found"))
            expect(page.locator("#notice")).to_contain_text(re.compile(f"{faces} faces? found"))


def test_keyboard_alone_reaches_a_picture_and_its_answer(page: Page):
    page.get_by_role("tab", name="Picture").focus()
    for place, key in (("#picture", None), ("#examples", "Enter"), ("#show-saliency", "Space")):
        tab_to(page, place)
        if key:
            page.keyboard.press(key)
    expect(page.locator("#cards .saliency img")).to_have_count(2)


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
    page.locator("#show-saliency input").check()
    expect(page.locator("#cards .saliency img")).to_have_count(2)  # still as one face


def test_kind_of_picture_that_the_browser_cannot_show_is_answered_and_said(page: Page, portrait: Path, tmp_path: Path):
    Image.open(portrait).save(tmp_path / "portrait.tiff")
    shown, said = (
        page.locator("#picture img"),
        "getComputedStyle(document.querySelector('#picture img').parentElement, '::before')",
    )
    upload(page, tmp_path / "portrait.tiff")
    expect(page.locator("#cards .face-card")).to_have_count(1)
    expect(shown).to_be_hidden()
    assert "cannot show this kind of picture" in page.evaluate(f"{said}.content")
    drop(page, portrait)
    expect(shown).to_be_visible()
    assert page.evaluate(f"{said}.content") == "none"


def test_page_tells_a_visitor_beyond_the_rate_limit(browser: Browser, guarded: DemoServer, portrait: Path, two: Path):
    address = {"X-Forwarded-For": "192.0.2.21"}
    with visit(browser, guarded, extra_http_headers=address) as page:
        log_in(page)
        cards = page.locator("#cards .face-card")
        upload(page, two)
        expect(cards).to_have_count(2)
        for _ in range(40):
            httpx.post(f"{guarded.url}/login", data={"username": "ann", "password": "wrong"}, headers=address)
        told = r"Too many requests: at most 40 a minute\. Try again in \d+ seconds"
        drop(page, portrait)
        expect(page.get_by_text(re.compile(f"^HTTP 429: {told}")).first).to_be_visible()
        page.locator("#examples button").click()  # its file is on the server already: the prediction is refused
        expect(page.get_by_text(re.compile(f"^{told}")).first).to_be_visible()
        expect(cards).to_have_count(0)  # they were of another picture
        expect(page.locator("#notice")).to_contain_text("you asked too often")
