"""What no visitor should send, through the bare HTTP API: a clear answer, a living server, nothing left on disk or in the log."""

import asyncio
import base64
import json
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image

from tests.support.demo_server import ROOT, DemoServer
from tests.support.odd_pictures import encoded, gif, png
from tests.support.page_calls import FILE_MARK, page_asks
from tests.support.tiny_model import save_tiny_model


pytestmark = pytest.mark.slow
KEEP_SECONDS = 12
LARGEST_MB, MOST_PICTURES = 3, 2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A demo that soon forgets; after all the tests its disk is empty, and its log holds nothing of what was sent."""
    folder = tmp_path_factory.mktemp("forgetful")
    save_tiny_model(folder / "tiny")
    limits = {
        "KEEP_SECONDS": str(KEEP_SECONDS),
        "MAX_PICTURE_MB": str(LARGEST_MB),
        "MAX_PICTURES": str(MOST_PICTURES),
        "REQUESTS_PER_MINUTE": "100000",
        "GRADIO_MCP_SERVER": "True",
    }
    with DemoServer(folder, MODEL_ID=str(folder / "tiny"), **limits) as server:
        yield server
        assert left_after_the_stated_time(server) == []
    assert server.private_words_in_log() == []


def left_after_the_stated_time(server: DemoServer) -> list:
    deadline = time.monotonic() + KEEP_SECONDS + 5  # for a busy machine
    while server.stored_files() and time.monotonic() < deadline:
        time.sleep(0.2)
    return server.stored_files()


@pytest.fixture
def http(demo: DemoServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        yield client


@pytest.fixture
def inside() -> Iterator[str]:
    """An address of the server's own network at which nobody may knock."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.jpg"
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def ask(http: httpx.Client, *data: object, **options: object) -> str:
    """The answer to a call: its events, or status and text where it was refused at once."""
    call = http.post("/gradio_api/call/predict", **(options or {"json": {"data": data}}))
    if call.status_code != 200:
        return f"{call.status_code} {call.text}"
    return http.get(f"/gradio_api/call/predict/{call.json()['event_id']}").text


def upload(http: httpx.Client, name: str, content: bytes) -> dict:
    [path] = http.post("/gradio_api/upload", files={"files": (name, content)}).raise_for_status().json()
    return {"path": path, "orig_name": name, "meta": FILE_MARK}


def uploaded(name: str, content: bytes) -> Callable[[httpx.Client, str], str]:
    return lambda http, _: ask(http, upload(http, f"private-name-{name}", content), True, "4 bins")


def sent(*data: object) -> Callable[[httpx.Client, str], str]:
    return lambda http, _: ask(http, *data)


def posted(path: str, **options: object) -> Callable[[httpx.Client, str], str]:
    def post(http: httpx.Client, _: str) -> str:
        answer = http.post(path, **options)
        return f"{answer.status_code} {answer.text}"

    return post


def got(*paths: str, method: str = "GET") -> Callable[[httpx.Client, str], str]:
    """One answer to all `paths`, in which {inside} and {quoted} stand for the address at which nobody may knock."""

    def get(http: httpx.Client, inside: str) -> str:
        urls = [f"/gradio_api/{path.format(inside=inside, quoted=quote(inside, safe=''))}" for path in paths]
        (answer,) = {f"{answer.status_code} {answer.text}" for answer in (http.request(method, url) for url in urls)}
        return answer

    return get


def page_asked(component: str, value: object) -> Callable[[httpx.Client, str], str]:
    """With a value that no page would send."""
    return lambda http, _: page_asks(http, component, value)


BOMB = zlib.compress(bytes(200_000_000), 9)
PORTRAIT = str(ROOT / "examples" / "astronaut.jpg")
FETCHES_NOTHING = "^403 .*fetches no web addresses and takes no recordings"
NO_UPLOAD = "Paths of the server and web addresses are never read"
CASES = {
    # pictures that cannot be used
    "truncated": (uploaded("a.jpg", encoded("JPEG")[:9000]), "is damaged"),
    "zero bytes": (uploaded("a.jpg", b""), r"is empty \(0 bytes\)"),
    "20,000 x 20,000 pixels": (uploaded("a.png", png(20_000)), r"at most 50,000,000 pixels"),
    "a GIF of 65,535 x 65,535": (uploaded("a.gif", gif(65_535)), "at most 50,000,000 pixels"),
    "scrolling screenshot as a face": (
        lambda http, _: ask(
            http, upload(http, "a.png", encoded("PNG", np.zeros((40_000, 300, 3), np.uint8))), False, ""
        ),
        "sides of at most 32,766 pixels",
    ),
    "SVG": (uploaded("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "none of these"),
    "text renamed": (uploaded("a.png", b"not a picture"), "none of these"),
    # odd ones that can
    "animated": (
        uploaded("a.gif", encoded("GIF", save_all=True, append_images=[Image.new("RGB", (512, 512))])),
        '"box"',
    ),
    "decompression bomb beside the pixels": (
        uploaded("a.png", png(64, (b"zTXt", b"bomb\0\0" + BOMB))),
        r"event: complete\s+data: \[\[\]\]",
    ),
    "1 x 1": (uploaded("a.png", png(1)), r"event: complete\s+data: \[\[\]\]"),
    # paths and addresses where a picture is expected
    "server file": (sent({"path": "/etc/passwd", "meta": FILE_MARK}, True, ""), NO_UPLOAD),
    "server file without the mark of an upload": (sent({"path": "/etc/passwd"}, True, ""), NO_UPLOAD),
    "picture of the server without the mark of an upload": (sent({"path": PORTRAIT}, True, ""), NO_UPLOAD),
    "file of the demo": (sent({"path": str(ROOT / "app.py"), "meta": FILE_MARK}, True, ""), NO_UPLOAD),
    "file of the server behind a folder of another demo": (
        sent({"path": f"/tmp/age-gender-demo-{'0' * 16}/../../app.py", "meta": FILE_MARK}, True, ""),
        NO_UPLOAD,
    ),
    "upload to the demo before its restart": (
        sent({"path": f"/tmp/age-gender-demo-{'0' * 16}/{'1' * 64}/a.jpg", "meta": FILE_MARK}, True, ""),
        "has been deleted in the meantime. Choose it again",
    ),
    "file by its address": (
        sent({"path": "http://127.0.0.1:7860/gradio_api/file=/etc/passwd", "meta": FILE_MARK}, True, ""),
        NO_UPLOAD,
    ),
    "address behind an address": (
        lambda http, inside: ask(http, {"path": f"http://demo/gradio_api/file={inside}", "meta": FILE_MARK}, True, ""),
        NO_UPLOAD,
    ),
    "internal address": (lambda http, inside: ask(http, {"path": inside, "meta": FILE_MARK}, True, ""), NO_UPLOAD),
    "internal address as url": (
        lambda http, inside: ask(http, {"path": "", "url": inside, "meta": FILE_MARK}, True, ""),
        NO_UPLOAD,
    ),
    "picture that is no example": (
        sent({"path": "http://127.0.0.1:7860/examples/README.md", "meta": FILE_MARK}, True, ""),
        NO_UPLOAD,
    ),
    "path behind an example": (
        sent({"path": "http://127.0.0.1:7860/examples/../app.py", "meta": FILE_MARK}, True, ""),
        NO_UPLOAD,
    ),
    "metadata service": (sent({"path": "http://169.254.169.254/latest", "meta": FILE_MARK}, True, ""), NO_UPLOAD),
    "address to be fetched": (
        got("file={inside}", "file%3D{quoted}", "file/{inside}", "proxy={inside}"),
        FETCHES_NOTHING,
    ),
    "address to be fetched, without its body": (got("file={inside}", method="HEAD"), "^403 $"),
    "address as text": (lambda http, inside: ask(http, inside, True, ""), NO_UPLOAD),
    # wrong JSON
    "no JSON": (
        posted("/gradio_api/call/predict", content=b"{not json", headers={"Content-Type": "application/json"}),
        "^422 .*JSON decode error",
    ),
    "no data": (lambda http, _: ask(http, json={"picture": "a.jpg"}), "^422 .*Field required"),
    "too few": (sent(), "picture, detect, age_ranges is missing"),
    "one too few": (sent(None, True), "Expected the arguments picture, detect, age_ranges; age_ranges is missing"),
    "nothing": (sent(None, True, ""), "Expected a picture file; none came"),
    "list": (sent([1, 2, 3], True, ""), NO_UPLOAD),
    "path that is none": (sent({"path": {"x": 1}, "meta": FILE_MARK}, True, ""), NO_UPLOAD),
    "wrong types": (
        lambda http, _: ask(http, upload(http, "a.png", png(1)), "yes", {"a": 1}),
        "Expected detect as true or false; got str",
    ),
    "ranges that are no text": (
        lambda http, _: ask(http, upload(http, "a.png", png(1)), True, {"a": 1}),
        "Expected the age ranges as text",
    ),
    # what the page's own functions never get from it
    # pictures in a form, by the page and by programs
    **{
        f"{case}, to {path}": (posted(path, **options), expected)
        for path in ("/page/answer", "/predict")
        for case, options, expected in [
            ("form without a picture", {"data": {"detect": "true"}}, "^400 .*picture is missing"),
            ("form with a text as the picture", {"files": {"picture": (None, "private-name")}}, "picture is missing"),
            ("form with text in the file", {"files": {"picture": ("private-name.jpg", b"no")}}, "^400 .*none of these"),
            ("form with an empty file", {"files": {"picture": ("a.jpg", b"")}}, r"^400 .*is empty \(0 bytes\)"),
            ("form with a damaged file", {"files": {"picture": encoded("JPEG")[:9000]}}, "^400 .*damaged"),
            ("form with a large file", {"files": {"picture": bytes(4_000_000)}}, "^413 .*at most 3 MB"),
            ("form with two files", {"files": [("picture", b"a"), ("more", b"b")]}, "^400 .*form cannot be read"),
            (
                "form with many fields",
                {"files": {"picture": b"a"}, "data": {f"f{number}": "x" for number in range(9)}},
                "^400 .*form cannot be read",
            ),
            (
                "form with a wrong flag",
                {"files": {"picture": encoded("JPEG")}, "data": {"detect": "perhaps"}},
                "^400 .*Expected detect as true or false; got 'perhaps'",
            ),
            (
                "form with another model",
                {"files": {"picture": encoded("JPEG")}, "data": {"model": "private-name"}},
                "^400 .*There is no such model here",
            ),
            ("no form", {"json": {"picture": "a.jpg"}}, "^400 .*picture is missing"),
        ]
    },
    "form with wrong ranges": (
        posted("/predict", files={"picture": encoded("JPEG")}, data={"age_ranges": "0-17, 20+"}),
        "^400 .*add 18-19",
    ),
    # what the page's own functions never get from it
    "frame that is text": (page_asked("webcam", "private-name"), NO_UPLOAD),
    "frame of numbers": (page_asked("webcam", {"url": 5}), NO_UPLOAD),
    "frame that is an address": (
        lambda http, inside: page_asks(http, "webcam", {"url": inside}),
        "picture as a data URL",
    ),
    "frame that is no picture": (page_asked("webcam", {"url": "data:image/png;base64,AAAA"}), "is none of these"),
    "model that is not offered": (page_asked("about-model", "private-name"), "is not in the list of choices"),
    # too much
    "huge batch": (sent([{"path": "a.jpg", "meta": FILE_MARK}] * 500, True, ""), NO_UPLOAD),
    "large JSON": (lambda http, _: ask(http, "x" * 100_000, True, ""), "^413 .*at most 43 kB"),
    "large picture": (posted("/gradio_api/upload", files={"files": ("a.jpg", bytes(4_000_000))}), "^413 .*maximum"),
    "large batch of pictures": (
        posted("/gradio_api/upload", files=[("files", (f"{n}.jpg", bytes(2_900_000))) for n in range(3)]),
        "^413 .*at most 7 MB can be sent at once",
    ),
    "body of unknown length": (posted("/gradio_api/upload", content=iter([b"x" * 1000] * 9)), "^411 .*Content-Length"),
    "recording": (posted("/gradio_api/process_recording", files={"video": b"private-name"}), FETCHES_NOTHING),
    "file for a component": (posted("/gradio_api/component_server", files={"a": b"private-name"}), FETCHES_NOTHING),
    "past the queue": (posted("/gradio_api/run/predict", json={"data": [None, True, ""]}), "^404 .*join the queue"),
}


@pytest.mark.parametrize(("send", "expected"), CASES.values(), ids=CASES.keys())
def test_bad_input_gets_a_clear_answer_from_a_living_server(
    demo: DemoServer, http: httpx.Client, inside: str, send: Callable[[httpx.Client, str], str], expected: str
):
    answer = send(http, inside)
    assert re.search(expected, answer), answer
    for told in ("root:", str(demo.files), str(ROOT)):  # neither a file's content nor where the server keeps its own
        assert told not in answer
    portrait = ask(http, upload(http, "portrait.jpg", encoded("JPEG")), True, "4 bins")
    assert len(json.loads(portrait.partition("data: ")[2])[0]) == 1


def soon(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def break_off_an_upload(demo: DemoServer, http: httpx.Client) -> None:
    """As a tab that is closed in the middle, when the first half is on disk."""
    before, head = set(demo.stored_files()), 'Content-Disposition: form-data; name="files"; filename="private-name.jpg"'
    with socket.create_connection((http.base_url.host, http.base_url.port)) as server:
        server.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: demo\r\nContent-Length: 2000000\r\n"
            b"Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
            + f"--cut\r\n{head}\r\n\r\n".encode()
            + bytes(500_000)
        )
        assert soon(lambda: not set(demo.stored_files()) <= before)


def misname_an_upload(demo: DemoServer, http: httpx.Client) -> None:
    http.post("/gradio_api/upload", files={"pictures": ("private-name.jpg", encoded("JPEG"))}).raise_for_status()


def name_an_upload_dots(demo: DemoServer, http: httpx.Client) -> None:
    http.post("/gradio_api/upload", files={"files": ("..", encoded("JPEG"))})


def call_the_tool(demo: DemoServer, http: httpx.Client) -> None:
    async def call() -> str:
        connection = streamablehttp_client(f"{demo.url}/gradio_api/mcp/")
        async with connection as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            picture = "data:image/jpeg;base64," + base64.b64encode(encoded("JPEG")).decode()
            text = (await session.call_tool("predict", {"picture": picture})).content[0].text
            assert text.startswith("["), text
            return text

    assert len(json.loads(asyncio.run(call()))) == 1


@pytest.mark.parametrize("send", [misname_an_upload, name_an_upload_dots, call_the_tool])
def test_whatever_is_sent_leaves_a_file_that_is_deleted(
    demo: DemoServer, http: httpx.Client, send: Callable[[DemoServer, httpx.Client], None]
):
    """The fixture `demo` checks at the end that all these files are gone."""
    before = set(demo.stored_files())
    send(demo, http)
    assert set(demo.stored_files()) - before


def test_an_upload_that_is_broken_off_leaves_no_file(demo: DemoServer, http: httpx.Client):
    before = set(demo.stored_files())
    break_off_an_upload(demo, http)
    assert soon(lambda: set(demo.stored_files()) <= before)


def test_a_picture_is_gone_after_the_stated_time(demo: DemoServer, http: httpx.Client):
    picture = upload(http, "private-name.jpg", encoded("JPEG"))
    assert '"box"' in ask(http, picture, True, "4 bins")
    assert http.get(f"/gradio_api/file={picture['path']}").content == encoded("JPEG")
    assert left_after_the_stated_time(demo) == []
    assert "Choose it again" in ask(http, picture, True, "4 bins")


@pytest.mark.parametrize("path", ["/page/answer", "/predict"])
def test_a_picture_that_comes_with_its_question_is_never_a_file(demo: DemoServer, http: httpx.Client, path: str):
    before = demo.stored_files()
    answer = http.post(path, files={"picture": ("private-name.jpg", encoded("JPEG", quality=100))}).raise_for_status()
    assert '"year_probabilities"' in answer.text or '"age_ranges"' in answer.text
    assert demo.stored_files() == before


def test_no_file_of_the_server_is_handed_out(demo: DemoServer, http: httpx.Client):
    for path in ("/etc/passwd", ROOT / "app.py", Path(demo.environment["MODEL_ID"]) / "config.json"):
        assert http.get(f"/gradio_api/file={path}").status_code == 403, path
    for path in ("/web/../app.py", "/web/%2e%2e/app.py", "/examples/../app.py", "/web//etc/passwd", "/web/"):
        assert http.get(path).status_code == 404, path
