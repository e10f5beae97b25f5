"""What a visitor asks on the Pictures tab and is refused, takes back or asks again, in a real Chromium."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.demo_server import DemoServer
from tests.support.visitors import choose, drop, hold_decoding, hold_first_question, visit


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad") / "bad.png"
    path.write_bytes(b"not a picture")
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a picture", "This cannot be read as a picture"),
        (b"", "The file is empty"),
        (None, "The file is too large: at most 20 MB"),
    ],
    ids=["text", "empty", "too large"],
)
def test_a_bad_file_never_wipes_the_answer_that_is_shown(
    page: Page, portrait: Path, tmp_path: Path, content: bytes | None, said: str
):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(bytes(20_000_001) if content is None else content)
    choose(page, bad)
    expect(page.get_by_role("alert")).to_contain_text(f"bad.jpg was not used. {said}")
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    choose(page, portrait)
    expect(page.locator(".hero-age")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    choose(page, bad, button="New picture")
    expect(page.get_by_role("alert")).to_contain_text(f"bad.jpg was not used. {said}")
    expect(page.locator(".hero-age")).to_be_visible()


def test_a_question_that_is_refused_can_be_asked_again(page: Page, portrait: Path, two: Path):
    choose(page, portrait)
    expect(page.locator(".hero-age")).to_be_visible()
    for refuse, said in (
        (lambda route: route.fulfill(status=503, json={"detail": "busy"}), "the demo is busy"),
        (lambda route: route.abort(), "The server cannot be reached"),
    ):
        page.route("**/page/answer", refuse, times=1)
        drop(page, two)
        expect(page.get_by_role("alert")).to_contain_text(said)
        expect(page.locator(".hero-age")).to_have_count(0)  # it was of another picture
        page.get_by_role("button", name="Back").click()
        expect(page.locator(".hero-age")).to_be_visible()
    page.route("**/page/answer", lambda route: route.abort(), times=1)
    drop(page, two)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".faces button.row")).to_have_count(2)


def test_a_question_can_be_cancelled_and_a_later_picture_wins(page: Page, portrait: Path, two: Path):
    line = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 10_000}  # bytes a second
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", slow)
    choose(page, portrait)
    waiting = page.locator(".waiting")
    expect(waiting).to_have_css("animation-delay", "0.3s")  # what is answered before shows no skeleton
    expect(waiting).to_have_css("opacity", "1")
    expect(waiting.locator(".ghost-age")).to_be_visible()
    said = re.compile(r"^Sending: (\d+)%$")
    expect(waiting.locator(".hero-lead")).to_have_text(said)
    first = int(said.match(waiting.locator(".hero-lead").inner_text())[1])
    assert 0 < first < 100
    assert first / 100 <= waiting.locator("progress").evaluate("bar => bar.value") + 0.005 < 1.005
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    line.detach()  # and the line is fast again
    hold_first_question(page)
    with page.expect_request("**/page/answer"):
        choose(page, portrait)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    page.unroute("**/page/answer")
    asked = hold_first_question(page)
    with page.expect_request("**/page/answer"):
        choose(page, portrait)
    drop(page, two)
    expect(page.locator(".faces button.row")).to_have_count(2)
    assert len(asked) == 2


def test_a_picture_that_is_cancelled_while_it_is_read_is_not_asked_about(page: Page, portrait: Path, two: Path):
    asked = []
    page.on("request", lambda request: asked.append(request) if request.url.endswith("/page/answer") else None)
    release = hold_decoding(page)
    choose(page, portrait)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    choose(page, two)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    release()
    expect(page.locator(".faces button.row")).to_have_count(2)
    assert len(asked) == 1
    choose(page, portrait, button="New picture")
    expect(page.locator(".hero-age")).to_be_visible()


def test_visitors_see_nothing_of_each_other(browser: Browser, demo: DemoServer, portrait: Path, two: Path):
    with visit(browser, demo) as first, visit(browser, demo) as second:
        asked = hold_first_question(first)
        with first.expect_request("**/page/answer"):
            choose(first, portrait)
        choose(second, two)
        expect(second.locator(".faces button.row")).to_have_count(2)
        asked[0].continue_()
        expect(first.locator(".hero-age")).to_be_visible()
        expect(first.locator(".annotated rect.box")).to_have_count(1)
