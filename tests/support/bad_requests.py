"""What no visitor should send to the demo, as a table: how it is sent, and the answer that is expected.

A case is sent by `send(http, inside)`, where `inside` is an address of the server's own network at which nobody may knock.
"""

import zlib
from collections.abc import Callable
from urllib.parse import quote

import httpx
import numpy as np
from PIL import Image

from tests.support.demo_server import ROOT
from tests.support.odd_pictures import encoded, gif, png
from tests.support.page_calls import FILE_MARK, page_asks


LARGEST_MB, MOST_PICTURES = 3, 2  # of the demo that is asked


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
    "model that is not offered": (page_asked("options", "private-name"), "There is no such model here"),
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
