"""The model in the visitor's own browser, in a real Chromium: the pipeline's answers, private, offline, on a moving face."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect
from skimage.data import astronaut

from demo.serving import find_model
from demo.settings import DEFAULT_MODEL, ModelChoice
from demo.site import write_site
from demo.texts import TEXTS
from model.configuration_age_gender import RANGE_SETS, parse_age_ranges
from model.errors import AgeGenderError
from scripts import export_web
from scripts.benchmarks.browser import serve_folder, write_frames
from scripts.benchmarks.device_parity import LOAD, compare, faces_of, pictures
from tests.support.demo_server import DemoServer
from tests.support.visitors import PATIENCE_MS, chromium, start_webcam, visit
from tests.support.web_model import in_full_precision, save_web_model


pytestmark = pytest.mark.slow
FEW = ("portrait", "tilted 25 degrees", "group of 6", "too small to answer")


FILM_FRAMES = 64


def middle_of_face(frame: int) -> float:
    """Pixels from the left, in the film: it sways by up to a sixth of its width a frame."""
    return round(320 + 150 * math.sin(2 * math.pi * frame / FILM_FRAMES))


def swaying_film(path: Path) -> Path:
    """A portrait that sways. A row of six black or white squares says which frame it is."""
    portrait = Image.fromarray(astronaut()).crop((124, 20, 324, 220))
    frames = []
    for index in range(FILM_FRAMES):
        frame = Image.new("RGB", (640, 480), "#444")
        frame.paste(portrait, (int(middle_of_face(index)) - 100, 120))
        for bit in range(6):
            frame.paste("white" if index >> bit & 1 else "black", (40 * bit, 440, 40 * bit + 40, 480))
        frames.append(frame)
    return write_frames(path, frames)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """With a camera that shows the swaying face."""
    folder = tmp_path_factory.mktemp("camera")
    with chromium(folder, swaying_film(folder / "sway.mjpeg")) as browser:
        yield browser


@pytest.fixture(scope="module")
def web_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "tiny"
    save_web_model(folder)
    return folder


@pytest.fixture(scope="module")
def site(web_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the static site that `scripts.export_web` writes, with a tiny model."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["export_web", "--model", str(web_model), "--output", str(folder)])
        export_web.main()
    with serve_folder(folder) as address:
        yield address


@pytest.fixture(scope="module")
def device_demo(web_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo with a model that browsers can run."""
    with DemoServer(tmp_path_factory.mktemp("demo"), MODEL_ID=str(web_model), REQUESTS_PER_MINUTE="100000") as server:
        yield server
    assert server.private_words_in_log() == []


@pytest.fixture
def site_page(browser: Browser, site: str) -> Iterator[Page]:
    context = browser.new_context(permissions=["camera"])
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    page.goto(site)
    yield page
    context.close()


def start_live(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator(".device-layer[data-faces='1'] text").first).to_have_text(re.compile(r"1 · \d+ years"))


@pytest.mark.parametrize(
    ("full_precision", "age_years"), [(False, 0.5), (True, 0.1)], ids=["shipped, 8-bit weights", "tiny, fp32"]
)
def test_the_device_answers_as_the_pipeline(
    browser: Browser, web_model: Path, tmp_path: Path, full_precision: bool, age_years: float
):
    folder = in_full_precision(web_model, tmp_path / "model") if full_precision else Path(DEFAULT_MODEL)
    shown = {name: picture for name, picture in pictures().items() if name != "at 4 times"}
    if full_precision:
        shown = {name: shown[name] for name in FEW}
    served = find_model(ModelChoice("model", str(folder)))
    write_site(served, tmp_path / "site")
    with serve_folder(tmp_path / "site") as address:
        page = browser.new_page()
        page.goto(address)
        page.evaluate(LOAD)
        differences = compare(page, served.pipeline, shown)
        differences |= compare(page, served.pipeline, {"as one face": astronaut()[60:185, 170:275]}, whole=True)
        archive = Path(DEFAULT_MODEL).parents[1] / "shared" / "data" / "UTKFace.tar.gz"
        if archive.is_file() and not full_precision:
            differences |= compare(page, served.pipeline, faces_of(archive, 8))
        page.close()
    for name, one in differences.items():
        assert one.faces[0] == one.faces[1], name
        assert one.box_pixels <= 2, name
        assert one.age_years <= age_years, name
        assert one.other_answers == (), name
    counts = [differences[name].faces[0] for name in ("portrait", "group of 6", "too small to answer")]
    assert counts == [1, 6, 1]


RANGES = [
    *RANGE_SETS,
    *("0-17, 18+", " 0-17;18 – 39\n40+ ", "0-4, 5, 6+", "0+", "0-116"),
    *("", "x", "0-17, 20+", "0-17, 17+", "5+", "0-17", "17-0, 18+", "0-200", "0-17, 18-130", "-3, 4+", "0-17 18+"),
]


def test_ranges_are_read_as_the_pipeline_reads_them(site_page: Page):
    read = """async ([texts, sets]) => {
      const {DeviceModel} = await import(new URL('device/device_model.js', location.href))
      const {RangesError} = await import(new URL('ranges.js', location.href))
      const device = new DeviceModel({config: {max_age: 116}, range_sets: sets, default_ranges: 'FairFace-9'})
      return texts.map(text => { try { return device.readRanges(text) } catch (error) { return error instanceof RangesError } })
    }"""

    def of_pipeline(text: str) -> object:
        """The ranges, or True for a mistake. What is left empty stands for the default."""
        try:
            return parse_age_ranges(text or "FairFace-9")
        except AgeGenderError:
            return True

    on_device = site_page.evaluate(read, [RANGES, RANGE_SETS])
    assert dict(zip(RANGES, on_device, strict=True)) == {text: of_pipeline(text) for text in RANGES}


MOVES = {
    "a face that sways by its width a frame": (100, [[100 + 80 * math.sin(k / 1.3) for k in range(20)]]),
    "a face that is seen twice a second": (500, [[320 + 160 * math.sin(2.8 / 1.6 * k / 2) for k in range(20)]]),
    "two side by side, by a width a frame": (100, [[100 * k for k in range(8)], [100 * k + 120 for k in range(8)]]),
    "two that turn back": (100, [[100 * (k % 2) for k in range(8)], [100 * (k % 2) + 120 for k in range(8)]]),
    "two that pass each other": (100, [[60 * k for k in range(10)], [600 - 60 * k for k in range(10)]]),
}


@pytest.mark.parametrize("name", MOVES)
def test_numbers_stay_with_faces_that_move_fast(site_page: Page, name: str):
    """Faces 100 pixels wide, so many milliseconds from frame to frame, in whatever order the detector names them."""
    follow = """async ([milliseconds, paths]) => {
      const {Tracks} = await import(new URL('device/tracking.js', location.href))
      const tracks = new Tracks()
      return paths[0].map((_, frame) => {
        const rows = paths.map((path, row) => ({path: row, box: [path[frame], 50 + 90 * row, path[frame] + 100, 180 + 90 * row]}))
        const order = frame % 2 ? rows.reverse() : rows
        const found = tracks.update(order, milliseconds * frame)
        for (const track of found) tracks.confirm(track, track.candidate)
        return Object.fromEntries(order.map(({path}, index) => [path, found[index].number]))
      })
    }"""
    numbers = site_page.evaluate(follow, MOVES[name])
    assert all(frame == numbers[0] for frame in numbers), numbers


def test_what_a_close_look_does_not_find_is_no_face(site_page: Page):
    looks = """async found => {
      const {Tracks} = await import(new URL('device/tracking.js', location.href))
      const tracks = new Tracks()
      const [track] = tracks.update([{box: [0, 0, 100, 100]}], 0)
      return found.map(isFace => { tracks.confirm(track, isFace ? {} : null); return track.face ? track.number : null })
    }"""
    # One frame in which it is blurred does not end it; a second one does.
    assert site_page.evaluate(looks, [False, False, True, False, True, False, False, True]) == [
        *(None, None, 1, 1, 1, 1, None, 1),
    ]


# Milliseconds between detections -> the median distance in widths between a box and its face.
NEAR = {40: 0.1, 80: 0.25, 120: 0.25, 200: 0.45}


def test_a_box_moves_on_as_its_face_does(site_page: Page):
    """A face that sways as in the film. A detection is known as much later as it took, and measured to 2 pixels."""
    follow = """async ([milliseconds, amplitude, width]) => {
      const {Tracks, boxAt} = await import(new URL('device/tracking.js', location.href))
      const at = time => amplitude * Math.sin(2 * Math.PI * time / (64 * 1000 / 30))
      const away = [], tracks = new Tracks()
      for (let time = 0; time < 8000; time += milliseconds) {
        const noise = ((time * 7919) % 5) - 2
        const [track] = tracks.update([{box: [at(time) + noise, 0, at(time) + noise + width, width]}], time)
        if (time < 1000) continue
        for (let later = milliseconds; later < 2 * milliseconds; later += 10) {
          away.push(Math.abs(boxAt(track, time + later)[0] - at(time + later)) / width)
        }
      }
      return away
    }"""
    for milliseconds, bound in NEAR.items():
        away = site_page.evaluate(follow, [milliseconds, 150, 95])
        assert median(away) < bound, milliseconds


def test_static_site_answers_pictures_in_any_ranges_without_a_network(site_page: Page, portrait: Path, tmp_path: Path):
    expect(site_page.locator("#picture progress")).to_be_hidden()
    requests: list[Request] = []
    site_page.on("request", lambda request: requests.append(request))
    site_page.context.set_offline(True)
    with site_page.expect_file_chooser() as chooser:
        site_page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(portrait)
    cards = site_page.locator("#picture .face-card")
    expect(cards).to_contain_text(re.compile(r"looks about \d+ years old.*likely \d+", re.DOTALL))
    expect(cards.locator("li")).to_have_count(9)
    expect(site_page.locator("#picture .site-picture rect.box")).to_have_count(1)
    site_page.locator("#picture").get_by_label("Age ranges").fill("0-17, 18+")
    expect(cards.locator("li")).to_have_count(2)
    site_page.locator("#picture").get_by_label("Age ranges").fill("0-17, 20+")
    expect(site_page.locator("#picture .problem")).to_contain_text("add 18-19")
    expect(cards.locator("li")).to_have_count(2)
    for name, content in (("grey", None), ("text", b"no picture")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(content) if content else Image.new("RGB", (300, 200), "grey").save(path)
        with site_page.expect_file_chooser() as chooser:
            site_page.get_by_role("button", name="Choose a picture").click()
        chooser.value.set_files(path)
        told = {"grey": "No face found", "text": "cannot be read as a picture"}[name]
        expect(site_page.locator("#picture .problem").last).to_contain_text(told)
    site_page.get_by_role("tab", name="Camera").click()
    start_live(site_page)
    assert [request.url for request in requests if not request.url.startswith(("blob:", "data:"))] == []


def test_the_live_camera_is_private_and_works_without_a_network(browser: Browser, device_demo: DemoServer):
    with visit(browser, device_demo) as page:
        requests: list[Request] = []
        page.on("request", lambda request: requests.append(request))
        page.on("websocket", lambda socket: pytest.fail(f"opened {socket.url}"))
        page.get_by_role("tab", name="Live camera").click()
        expect(page.get_by_label("On this device")).to_be_checked()
        start_live(page)
        page.locator("#live").get_by_label("Age ranges").fill("0-17, 18+")
        expect(page.locator("#live .face-card li")).to_have_count(2)
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
        assert device_demo.stored_files() == []
        fetched = "performance.getEntriesByType('resource').filter(({name}) => name.includes('/device/files/'))"
        assert page.evaluate(f"{fetched}.length") == 3
        # a second visit loads nothing of them again
        page.reload()
        page.get_by_role("tab", name="Live camera").click()
        page.wait_for_function(f"{fetched}.length === 3")
        assert page.evaluate(f"{fetched}.map(({{transferSize}}) => transferSize)") == [0, 0, 0]


def test_the_visitor_lets_the_server_answer_and_comes_back(browser: Browser, device_demo: DemoServer):
    with visit(browser, device_demo) as page:
        page.get_by_role("tab", name="Live camera").click()
        start_live(page)
        page.evaluate("window.track = document.querySelector('#live video').srcObject.getTracks()[0]")
        page.get_by_label("On the server").check()
        assert page.evaluate("track.readyState") == "ended"
        expect(page.get_by_text("Pictures of your camera are sent to the server")).to_be_visible()
        page.get_by_text("Click to Access Webcam").click()
        page.locator("#webcam").get_by_text("Start").click()
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
        expect(page.locator("#live .face-card")).to_contain_text("sieht aus wie etwa")
        page.locator("#live").get_by_label("Altersgruppen").fill("0-17, 20+")
        expect(page.locator("#live .problem")).to_contain_text("ergänze 18-19")
        seen += page.evaluate(said)
    page = browser.new_page(locale="de-AT")
    page.goto(site)
    page.get_by_role("button", name="Probiere es mit der Astronautin").click()
    expect(page.locator("#picture .face-card")).to_contain_text("sieht aus wie etwa")
    seen += page.evaluate(said)
    page.close()
    words = {line.strip() for part in seen for line in (part or "").splitlines()}
    assert words & english == set()
    assert {"Auf diesem Gerät", "Anhalten", TEXTS["de"]["site_private"]} <= words


NO_CAMERA = {
    "NotAllowedError": "The camera is not allowed",
    "NotReadableError": "used by another program",
    "NotFoundError": "There is no camera",
}


def test_a_camera_that_does_not_start_says_why(site_page: Page):
    site_page.get_by_role("tab", name="Camera").click()
    start, told = site_page.get_by_role("button", name="Start the camera"), site_page.locator("#camera .problem")
    for error, text in NO_CAMERA.items():
        fail = "error => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', error) } }"
        site_page.evaluate(fail, error)
        start.click()
        expect(told).to_contain_text(text)
    # the page of another computer, without https
    site_page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    start.click()
    expect(told).to_contain_text("only to https pages")
    expect(start).to_be_enabled()


def test_a_camera_that_stops_and_a_page_in_the_background(site_page: Page):
    track = "document.querySelector('#camera video').srcObject?.getTracks()[0]"
    site_page.get_by_role("tab", name="Camera").click()
    start_live(site_page)
    site_page.evaluate(f"{track}.dispatchEvent(new Event('ended'))")  # as the browser does when it is unplugged
    expect(site_page.locator("#camera .problem")).to_contain_text("it was unplugged, or another program took it")
    start_live(site_page)
    hide = """hidden => {
      Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden})
      document.dispatchEvent(new Event('visibilitychange'))
    }"""
    site_page.evaluate(f"window.track = {track}")
    site_page.evaluate(hide, True)
    assert site_page.evaluate("track.readyState") == "ended"
    expect(site_page.locator("#camera")).to_contain_text("Paused")
    site_page.evaluate(hide, False)
    expect(site_page.locator(".device-layer[data-faces='1']")).to_be_visible()
    site_page.evaluate(f"window.track = {track}")
    site_page.get_by_role("tab", name="Picture").click()
    site_page.wait_for_function("track.readyState === 'ended'")


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


WATCH = """async middles => {
  const video = document.querySelector('.device-stage video')
  const canvas = new OffscreenCanvas(240, 40).getContext('2d', {willReadFrequently: true})
  const seen = [], times = []
  document.addEventListener('found', ({detail}) => times.push(detail.total))
  for (const end = performance.now() + 3000; performance.now() < end; await new Promise(requestAnimationFrame)) {
    canvas.drawImage(video, 0, 440, 240, 40, 0, 0, 240, 40)
    const isWhite = bit => canvas.getImageData(40 * bit + 20, 20, 1, 1).data[0] > 128
    const frame = [0, 1, 2, 3, 4, 5].reduce((sum, bit) => sum + (isWhite(bit) << bit), 0)
    const box = document.querySelector('.device-layer rect.box')
    const number = document.querySelector('.device-layer text')?.textContent[0]
    if (!box) { seen.push(null); continue }
    const [x, width] = ['x', 'width'].map(name => Number(box.getAttribute(name)))
    seen.push({number, away: Math.abs(640 - x - width / 2 - middles[frame]) / width})
  }
  return {seen, times}
}"""


def test_the_box_stays_on_a_face_that_sways(site_page: Page):
    site_page.get_by_role("tab", name="Camera").click()
    start_live(site_page)
    watched = site_page.evaluate(WATCH, [middle_of_face(frame) for frame in range(FILM_FRAMES)])
    boxes = [one for one in watched["seen"] if one]
    assert len(boxes) > 0.9 * len(watched["seen"])
    assert {one["number"] for one in boxes} == {"1"}
    # Less than one detection behind, however busy this machine is: the face moves by 2.8 of its widths a second.
    moved_meanwhile = 2.8 * median(watched["times"]) / 1000
    assert median(one["away"] for one in boxes) < max(0.25, moved_meanwhile)
