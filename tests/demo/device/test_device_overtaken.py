"""What the visitor wishes meanwhile: another model while one is fetched, another start while the browser asks for the camera."""

import json

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.demo_server import DemoServer
from tests.support.visitors import start_live, visit


pytestmark = pytest.mark.slow
# Each question for the camera waits until `releaseCamera()`; `asked` has the streams.
HOLD_CAMERA = """() => {
  const devices = navigator.mediaDevices, start = devices.getUserMedia.bind(devices)
  const held = []
  let isReleased = false
  window.asked = []
  window.releaseCamera = () => { isReleased = true; for (const release of held) release() }
  devices.getUserMedia = async wishes => {
    const index = asked.push(null) - 1
    if (!isReleased) await new Promise(release => held.push(release))
    return (asked[index] = await start(wishes))
  }
}"""


def with_threshold(route: Route, gender_threshold: float) -> None:
    """Answer with the manifest of a model of this threshold, by which its answers are known: above 1 it is always unsure."""
    manifest = route.fetch().json()
    manifest["config"]["gender_threshold"] = gender_threshold
    route.fulfill(body=json.dumps(manifest), content_type="application/json")


def test_a_model_that_is_chosen_while_another_is_fetched_answers(browser: Browser, device_demo: DemoServer):
    with visit(browser, device_demo) as page:
        held: list[Route] = []
        page.route("**/device/models/0.json", lambda route: held.append(route))
        page.route("**/device/models/1.json", lambda route: with_threshold(route, 1.1))
        workers: list[object] = []
        page.on("worker", lambda worker: workers.append(worker))
        page.evaluate(HOLD_CAMERA)
        page.get_by_role("tab", name="Live camera").click()
        page.get_by_role("button", name="Start the camera").click()  # it waits for the first model
        page.get_by_text("Options", exact=True).click()
        with page.expect_response("**/device/models/1.json"):
            page.get_by_label("Model").select_option("Second")
        expect(page.locator("#live progress")).to_be_hidden()
        with_threshold(held[0], 0.0)
        for _ in range(100):
            if len(workers) == 4 and len(page.workers) == 2:  # the first model's have come, and have ended
                break
            page.wait_for_timeout(100)
        assert (len(workers), len(page.workers)) == (4, 2)
        assert page.evaluate("asked.length") == 0, "the start was of the first model"
        page.evaluate("releaseCamera()")
        start_live(page)
        expect(page.locator("#live .hero-gender")).to_contain_text("Gender unsure")


def test_a_start_that_is_overtaken_stops_no_newer_one_and_leaves_no_camera_on(
    browser: Browser, device_demo: DemoServer
):
    with visit(browser, device_demo) as page:
        page.evaluate(HOLD_CAMERA)
        page.get_by_role("tab", name="Live camera").click()
        page.get_by_role("button", name="Start the camera").click()
        page.wait_for_function("asked.length === 1")
        page.get_by_label("On the server").check()
        page.get_by_label("On this device").check()
        page.get_by_role("button", name="Start the camera").click()
        page.wait_for_function("asked.length === 2")
        page.evaluate("releaseCamera()")
        expect(page.locator(".device-layer[data-faces='1'] .age")).to_be_visible()
        states = "asked.map(stream => stream.getTracks()[0].readyState)"
        assert page.evaluate(states) == ["ended", "live"]


def test_a_video_that_does_not_play_says_so_and_leaves_no_camera_on(site_page: Page):
    site_page.evaluate(
        """() => {
          const devices = navigator.mediaDevices, start = devices.getUserMedia.bind(devices)
          devices.getUserMedia = async wishes => { window.stream = await start(wishes); return stream }
          HTMLMediaElement.prototype.play = async () => { throw new DOMException('', 'NotSupportedError') }
        }"""
    )
    site_page.get_by_role("tab", name="Live camera").click()
    site_page.get_by_role("button", name="Start the camera").click()
    expect(site_page.locator("#camera .notice.problem")).to_contain_text("The camera does not start")
    assert site_page.evaluate("stream.getTracks()[0].readyState") == "ended"
    expect(site_page.get_by_role("button", name="Start the camera")).to_be_enabled()
