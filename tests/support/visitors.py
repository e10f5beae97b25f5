"""Visitors of the demo in a real Chromium, and what they do on its page."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from skimage.data import astronaut

from scripts.benchmarks.visiting import NoBrowser, launch_chromium, open_file_chooser, write_film
from tests.support.demo_server import DemoServer


PATIENCE_MS = 30_000  # on a busy machine


@contextmanager
def chromium(folder: Path, film: Path | None = None) -> Iterator[Browser]:
    """With a camera that shows `film`; by default a public-domain portrait, whose film is written into `folder`."""
    film = film or write_film(folder / "film.mjpeg", Image.fromarray(astronaut()))
    with sync_playwright() as playwright:
        try:
            browser = launch_chromium(playwright, film)
        except NoBrowser as error:
            pytest.skip(str(error))
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, demo: DemoServer, **options: object) -> Iterator[Page]:
    """A visitor's page. A request to another server, and an error of the page's own scripts, is an error.

    By default the visitor prefers reduced motion, so that tests can measure where things are.
    """
    options = {"reduced_motion": "reduce", **options}
    context = browser.new_context(permissions=["camera", "clipboard-read", "clipboard-write"], **options)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(error) if "/web/" in (error.stack or "") else None)
    # Intercept the file chooser from now on: `expect_file_chooser` alone begins too late for a key that is pressed at once.
    page.on("filechooser", lambda chooser: None)
    page.goto(demo.url)
    yield page
    context.close()
    assert [url for url in requests if not url.startswith((demo.url, "data:", "blob:"))] == []
    assert errors == []


def choose(page: Page, *paths: Path, button: str = "Choose photos") -> None:
    """Click the visible button, and choose files in the browser's file chooser."""
    open_file_chooser(page, button).set_files(paths)


def drop(page: Page, *paths: Path) -> None:
    """Drag files from the visitor's desktop, and drop them in the middle of the window."""
    size = page.viewport_size
    browser = page.context.new_cdp_session(page)
    event = {
        "x": size["width"] / 2,
        "y": size["height"] / 2,
        "data": {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1},
    }
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, **event})
    browser.detach()


def copy_picture(page: Page, path: Path) -> None:
    """Put a PNG into the clipboard, as another program would."""
    page.evaluate(
        """async bytes => {
          const blob = new Blob([new Uint8Array(bytes)], {type: 'image/png'})
          await navigator.clipboard.write([new ClipboardItem({'image/png': blob})])
        }""",
        list(path.read_bytes()),
    )


# What has the focus, where no outline of two pixels and of another colour than its ground shows it.
UNSEEN_FOCUS = """() => {
  const one = document.activeElement
  if (one === document.body) return null
  const shown = one.closest('.choice') ? one.nextElementSibling : one // its label's words stand for a radio button
  const {outlineStyle, outlineWidth, outlineColor, opacity} = getComputedStyle(shown)
  const {width, height} = shown.getBoundingClientRect()
  const isSeen = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && !/, 0\\)$/.test(outlineColor) && opacity > 0
  return isSeen && width > 2 && height > 2 ? null : one.outerHTML.slice(0, 200)
}"""


def tab_to(page: Page, place: str) -> None:
    """Press Tab until something in `place`, a CSS selector, has the focus; each time, what has it is outlined."""
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate(UNSEEN_FOCUS) is None
        if page.evaluate("place => document.activeElement.closest(place) !== null", place):
            return
    raise AssertionError(f"30 presses of Tab do not reach {place}")


def hold_first_question(page: Page) -> list[Route]:
    """The questions from now on; the first waits for its `continue_()`."""
    asked = []

    def meet(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()

    page.route("**/page/answer", meet)
    return asked


def hold_decoding(page: Page) -> Callable[[], None]:
    """The page's pictures are decoded only when the function is called that this returns, as on a slow machine."""
    page.evaluate(
        """() => {
          const decode = window.createImageBitmap
          const released = new Promise(resolve => { window.releaseDecoding = resolve })
          window.createImageBitmap = async (...wishes) => { await released; return decode(...wishes) }
        }"""
    )
    return lambda: page.evaluate("releaseDecoding()")


def start_webcam(page: Page) -> None:
    """Of the server's live camera, on a page whose model browsers cannot run, or where the visitor chose the server."""
    page.get_by_role("tab", name="Live camera").click()
    page.locator("#overlay").get_by_role("button", name="Start the camera").click()


def log_in(page: Page) -> None:
    page.get_by_label("username").fill("ann")
    page.get_by_label("password").fill("secret")
    page.get_by_role("button", name="Login").click()
    page.get_by_role("button", name="Choose photos").wait_for()


def start_live(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator(".device-layer[data-faces='1'] .age")).to_have_text(re.compile(r"^\d+$"))


def reload(page: Page) -> None:
    """Load the page again, and wait until it is drawn to its end."""
    page.reload()
    page.get_by_role("button", name="Choose photos").wait_for()
    page.get_by_role("button", name="Use it in your programs").wait_for()
