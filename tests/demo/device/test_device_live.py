"""The live camera on the visitor's own device, in a real Chromium: private, offline, on a face that moves."""

import re
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Request, Route, expect

from demo.page import TEXTS
from tests.support.demo_server import DemoServer
from tests.support.visitors import start_live, start_webcam, visit


pytestmark = pytest.mark.slow


def test_the_live_camera_is_private_and_works_without_a_network(browser: Browser, device_demo: DemoServer):
    with visit(browser, device_demo) as page:
        # Gradio's style, whose address holds its hash, may come last of what the page is made of
        page.wait_for_function(
            "performance.getEntriesByType('resource').some(({name}) => name.includes('/theme.css?'))"
        )
        requests: list[Request] = []
        page.on("request", lambda request: requests.append(request))
        page.on("websocket", lambda socket: pytest.fail(f"opened {socket.url}"))
        page.get_by_role("tab", name="Live camera").click()
        expect(page.get_by_label("On this device")).to_be_checked()
        start_live(page)
        live = page.locator("#live")
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Age ranges").select_option("Child / adult")
        expect(live.locator(".bars li").last).to_contain_text(re.compile(r"^(0-17|18\+)"))
        page.context.set_offline(True)
        page.get_by_role("button", name="Stop").click()
        start_live(page)
        page.context.set_offline(False)
        page.evaluate("window.track = document.querySelector('#live video').srcObject.getTracks()[0]")
        page.get_by_role("tab", name="About").click()
        page.wait_for_function("track.readyState === 'ended'")
        sent = [request for request in requests if request.method != "GET"]
        bodies = [request.post_data or "" for request in sent]
        assert {request.resource_type for request in sent} <= {"fetch", "xhr"}
        assert not [request.url for request in requests if re.search("/upload|/stream/|/call/|/queue/", request.url)]
        assert max(map(len, bodies), default=0) < 500, bodies
        assert not re.search("image|base64|years|male", "".join(bodies))
        addresses = [urlsplit(request.url) for request in requests if request.method == "GET"]
        # what is fetched are files of fixed names: no address has room for an answer
        assert {address.query for address in addresses} == {""}
        fixed = (
            r"/(assets|web|static|examples|device/code/[0-9a-f]{16}|device/files/[0-9a-f]{16})/|/device/models/0\.json$"
        )
        assert [address.path for address in addresses if not re.match(fixed, address.path)] == []
        assert device_demo.stored_files() == []
        fetched = "performance.getEntriesByType('resource').filter(({name}) => name.includes('/device/files/'))"
        assert page.evaluate(f"{fetched}.length") == 3
        # a second visit loads nothing of them again
        page.reload()
        page.get_by_role("tab", name="Live camera").click()
        page.wait_for_function(f"{fetched}.length === 3")
        assert page.evaluate(f"{fetched}.map(({{transferSize}}) => transferSize)") == [0, 0, 0]


def device_files(demo: DemoServer) -> dict[str, dict]:
    """Of the manifest; `url` is whole."""
    manifest = f"{demo.url}/device/models/0.json"
    files = httpx.get(manifest).raise_for_status().json()["files"]
    return {role: file | {"url": urljoin(manifest, file["url"])} for role, file in files.items()}


def test_files_are_sent_compressed_with_their_types_and_kept(device_demo: DemoServer):
    types = {
        "runtime_wasm": "application/wasm",
        "runtime_webgpu": "application/wasm",
        "model": "application/octet-stream",
        "face_detector": "application/octet-stream",
    }
    files = device_files(device_demo)
    assert files.keys() == types.keys()
    for role, file in files.items():
        for encoding in ("gzip", "identity"):
            answer = httpx.get(file["url"], headers={"Accept-Encoding": encoding})
            assert answer.headers["Content-Type"] == types[role]
            assert answer.headers.get("Content-Encoding", "identity") == encoding
            assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert len(answer.content) == file["bytes"]


def test_the_visitor_lets_the_server_answer_and_comes_back(browser: Browser, device_demo: DemoServer):
    with visit(browser, device_demo) as page:
        held: list[Route] = []
        page.route("**/model_web.onnx", lambda route: held.append(route))
        page.get_by_role("tab", name="Live camera").click()
        # while one file is on its way, the others' megabytes are there
        sizes = {role: file["bytes"] / 1e6 for role, file in device_files(device_demo).items()}
        done = sizes["runtime_wasm"] + sizes["face_detector"]
        whole = done + sizes["model"]
        expect(page.get_by_text(f"Loading the model: {done:.1f} of {whole:.1f} MB")).to_be_visible()
        shown = page.locator("#live progress").evaluate("bar => bar.value")
        assert shown == pytest.approx(done / whole, abs=0.001)
        held[0].continue_()
        start_live(page)
        page.evaluate("window.track = document.querySelector('#live video').srcObject.getTracks()[0]")
        page.get_by_label("On the server").check()
        assert page.evaluate("track.readyState") == "ended"
        expect(page.get_by_text("Pictures of your camera are sent to the server")).to_be_visible()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()
        page.evaluate("window.track = document.querySelector('#webcam video').srcObject.getTracks()[0]")
        page.get_by_label("On this device").check()
        page.wait_for_function("track.readyState === 'ended'")
        expect(page.get_by_text("Nothing leaves this device")).to_be_visible()
        start_live(page)


def test_a_german_visitor_reads_german_only(browser: Browser, device_demo: DemoServer, site: str):
    english = {text for key, text in TEXTS["en"].items() if TEXTS["de"][key] != text and len(text) > 3}
    said = """() => [document.body.innerText, document.title,
      ...[...document.querySelectorAll('[aria-label]')].map(one => one.ariaLabel)]"""
    seen: list[str] = []
    with visit(browser, device_demo, locale="de-AT") as page:
        page.get_by_role("tab", name="Live-Kamera").click()
        page.get_by_role("button", name="Kamera starten").click()
        live = page.locator("#live")
        expect(live.locator(".hero")).to_contain_text("sieht aus wie etwa")
        page.get_by_text("Einstellungen", exact=True).click()
        page.get_by_label("Altersgruppen").select_option("Eigene eingeben")
        page.get_by_label("Deine Gruppen").fill("0-17, 20+")
        expect(page.locator("#options .problem")).to_contain_text("ergänze 18-19")
        seen += page.evaluate(said)
    page = browser.new_page(locale="de-AT")
    page.goto(site)
    example = page.get_by_role("button", name="Eine Astronautin")
    example.wait_for()
    seen += page.evaluate(said)
    example.click()
    expect(page.locator("#picture .hero")).to_contain_text("sieht aus wie etwa")
    seen += page.evaluate(said)
    page.close()
    words = {line.strip() for part in seen for line in (part or "").splitlines()}
    assert words & english == set()
    assert {"Auf diesem Gerät", "Anhalten", TEXTS["de"]["site_private"]} <= words


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("WebAssembly.validate = () => false", "This browser has no WebAssembly SIMD. So the model runs on the server."),
        ("window.Worker = class { constructor() { setTimeout(() => this.onerror({message: 'Out of memory'})) } "
         "postMessage() {} terminate() {} }", "too little memory for the model. So the model runs on the server."),
    ],
    ids=["no SIMD", "no memory"],
)  # fmt: skip
def test_a_browser_that_cannot_run_the_model_uses_the_server(
    browser: Browser, device_demo: DemoServer, cause: str, told: str
):
    with visit(browser, device_demo) as page:
        page.add_init_script(cause)
        page.reload()
        start_webcam(page)
        expect(page.get_by_text(told)).to_be_visible()
        expect(page.locator("#overlay svg[data-faces='1']")).to_be_visible()
