"""Requests that are made to stop the demo or to fill its memory, and what it answers."""

import base64
import socket
from collections.abc import Callable
from functools import partial

import httpx

from tests.support.hostile_pictures import (
    HOSTILE,
    MEGABYTE,
    gif_of_comments,
    jpeg_of_scans,
    pgm_of_comments,
    png_bomb,
)
from tests.support.page_calls import FILE_MARK, page_asks


def answer_to(http: httpx.Client, content: bytes, name: str) -> str:
    upload = http.post("/gradio_api/upload", files={"files": (name, content)})
    if upload.status_code != 200:
        return f"{upload.status_code} {upload.text}"
    return answer_about(http, {"path": upload.json()[0], "orig_name": name, "meta": FILE_MARK})


def answer_about(http: httpx.Client, picture: dict) -> str:
    call = http.post("/gradio_api/call/predict", json={"data": [picture, True, "4 bins"]})
    if call.status_code != 200:
        return f"{call.status_code} {call.text}"
    return http.get(f"/gradio_api/call/predict/{call.json()['event_id']}").text


def uploaded(name: str, make: Callable[[], bytes]) -> Callable[[httpx.Client], str]:
    return lambda http: answer_to(http, make(), f"private-name-{name}")


def as_frame(make: Callable[[], bytes]) -> Callable[[httpx.Client], str]:
    def send(http: httpx.Client) -> str:
        url = "data:image/tiff;base64," + base64.b64encode(make()).decode()
        try:
            return page_asks(http, "webcam", {"url": url})
        except httpx.HTTPStatusError as error:
            return f"{error.response.status_code} {error.response.text}"

    return send


def posted(path: str, **options: object) -> Callable[[httpx.Client], str]:
    def post(http: httpx.Client) -> str:
        made = {name: value() if callable(value) else value for name, value in options.items()}
        answer = http.post(path, **made)
        return f"{answer.status_code} {answer.text}"

    return post


def got(path: str, **options: object) -> Callable[[httpx.Client], str]:
    def get(http: httpx.Client) -> str:
        answer = http.get(path, **options)
        return f"{answer.status_code} {answer.text}"

    return get


def header_of(length: int) -> Callable[[httpx.Client], str]:
    """The status alone: the server answers and closes before it has read the header, which may reset the connection before
    the body of its answer is read.
    """

    def send(http: httpx.Client) -> str:
        with http.stream("GET", "/", headers={"X-Long": "h" * length}) as answer:
            return f"{answer.status_code} "

    return send


def announced(path: str, length: int) -> Callable[[httpx.Client], str]:
    """A body that is only announced: it is refused before it is read."""

    def send(http: httpx.Client) -> str:
        with socket.create_connection((http.base_url.host, http.base_url.port), 30) as server:
            server.sendall(f"POST {path} HTTP/1.1\r\nHost: demo\r\nContent-Length: {length}\r\n\r\n".encode())
            return server.recv(65_536).decode().partition(" ")[2]

    return send


def repeated(text: bytes, length: int) -> bytes:
    return text * (length // len(text))


JSON = {"Content-Type": "application/json"}
PICTURE_REFUSED = "event: error|event: complete"  # an answer, whatever the file is read as
TOO_MANY = "^413 .*Expected at most 5,000 values"
CASES = {
    # JSON
    "40 MB of JSON": (announced("/gradio_api/queue/join", 40_000_000), "^413 .*"),
    "40 MB to a function": (announced("/gradio_api/run/x", 40_000_000), "^413 .*"),
    "13 million objects to the tool": (
        posted("/gradio_api/mcp/", content=lambda: b"[" + b"{}," * 13_000_000 + b"{}]", headers=JSON),
        TOO_MANY,
    ),
    "600,000 objects as a frame": (
        posted("/gradio_api/stream/x", content=lambda: b'{"data":[' + b"{}," * 600_000 + b"{}]}", headers=JSON),
        TOO_MANY,
    ),
    "600,000 texts": (
        posted("/gradio_api/queue/join", content=lambda: b'{"data":[' + b'"",' * 600_000 + b'""]}', headers=JSON),
        TOO_MANY,
    ),
    **{
        f"{length / 1e6:.0f} MB of {name} to {path}": (
            posted(f"/gradio_api/{path}", content=partial(repeated, text, length), headers=JSON),
            TOO_MANY,
        )
        for path, length in (("mcp/", 40_000_000), ("stream/x", 2_000_000))
        for name, text in (("closing brackets", b"]"), ("quotes behind backslashes", b'\\\\"'))
    },
    "nested 5,000 deep": (
        posted("/gradio_api/queue/join", content=b"[" * 5_000, headers=JSON),
        "^413 .*nested at most 20 deep",
    ),
    "nested behind brackets in texts": (
        posted("/gradio_api/queue/join", content=b'["]]]",' * 30 + b"0" + b"]" * 30, headers=JSON),
        "^413 .*nested at most 20 deep",
    ),
    "a number of a million digits": (
        posted("/gradio_api/queue/join", content=b'{"data":[' + b"9" * 1_000_000 + b"]}", headers=JSON),
        "^4(00|22) ",
    ),
    # forms
    "quadratic charset before the login": (
        posted(
            "/login",
            content=b"--x\r\n" + b"a" * 3_000,
            headers={"Content-Type": "multipart/form-data; boundary=x; charset=punycode"},
        ),
        "^415 .*UTF-8",
    ),
    "quadratic charset of an upload": (
        posted(
            "/gradio_api/upload",
            content=lambda: (
                b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"-" * 320_000 + b"\r\n--x--\r\n"
            ),
            headers={"Content-Type": 'multipart/form-data; boundary=x; charset="IDNA"'},
        ),
        "^415 .*UTF-8",
    ),
    "a text field of 10 MB": (
        posted("/gradio_api/upload", data=lambda: {"a": "x" * 10_000_000}, files={"files": b""}),
        "^400 .*text field is too long",
    ),
    "1,000 text fields": (
        posted("/gradio_api/upload", data={f"f{n}": "x" for n in range(1000)}, files={"files": b""}),
        "^400 .*Too many fields",
    ),
    "1,000 files": (
        posted("/gradio_api/upload", files=[("files", (f"{n}.jpg", b"x")) for n in range(1000)]),
        "^400 .*Too many files",
    ),
    "a long name of an upload": (
        posted("/gradio_api/upload", files={"files": ("n" * 500 + ".jpg", b"x")}),
        "^400 .*names of files of at most 255",
    ),
    "a long name of a picture": (
        lambda http: answer_about(http, {"path": "/a.jpg", "orig_name": "n" * 30_000, "meta": FILE_MARK}),
        "Paths of the server and web addresses are never read",
    ),
    "age ranges of 20,000 characters": (
        posted("/gradio_api/call/predict", json={"data": [None, True, "0-1," * 5_000]}),
        "^413 |^200 ",
    ),
    # pictures
    "TIFF whose tags share 10 MB": (uploaded("a.tif", HOSTILE["TIFF whose tags share 10 MB"]), PICTURE_REFUSED),
    "TIFF frame whose tags share 1.4 MB": (as_frame(HOSTILE["TIFF whose tags share 1.4 MB"]), "process_"),
    "PNG whose EXIF tags share 1.4 MB": (uploaded("a.png", HOSTILE["EXIF of a PNG"]), PICTURE_REFUSED),
    "WebP whose EXIF tags share 1.4 MB": (uploaded("a.webp", HOSTILE["EXIF of a WebP"]), PICTURE_REFUSED),
    "JPEG of 2,500 scans": (uploaded("a.jpg", HOSTILE["JPEG of 2,500 scans"]), "event: error"),
    "JPEG frame of 1,000 scans": (as_frame(lambda: jpeg_of_scans(1000, 4000)), "process_"),
    "16 bits, 49 megapixels": (uploaded("deep.png", HOSTILE["16-bit PNG of 49 megapixels"]), PICTURE_REFUSED),
    "32 bits, 49 megapixels": (uploaded("deep.tif", HOSTILE["float TIFF of 49 megapixels"]), PICTURE_REFUSED),
    "black with transparency, 49 megapixels": (uploaded("bomb.png", lambda: png_bomb(7000)), PICTURE_REFUSED),
    "PGM of 19 MB of comments": (uploaded("a.pgm", lambda: pgm_of_comments(19)), PICTURE_REFUSED),
    "GIF of 19 MB of comments": (uploaded("a.gif", lambda: gif_of_comments(19 * MEGABYTE)), PICTURE_REFUSED),
    **{
        f"{name} in a form to {path}": (posted(path, files=lambda make=make: {"picture": make()}), expected)
        for path in ("/predict", "/page/answer")
        for name, make, expected in [
            ("black with transparency, 49 megapixels,", lambda: png_bomb(7000), "^200 |^400 .*too_costly"),
            ("JPEG of 2,500 scans", HOSTILE["JPEG of 2,500 scans"], "^400 .*scans"),
            (
                "JPEG of as many scans as are read",
                HOSTILE["JPEG of as many scans as are read"],
                "^200 |^400 .*too_costly",
            ),
        ]
    },
    # addresses, headers
    "a query of 10,000 characters": (got("/config?" + "q" * 10_000), "^414 "),
    "a header of 100,000 characters": (header_of(100_000), "^4(00|31) "),
    "a function that is not there": (
        posted("/gradio_api/queue/join", json={"data": [], "fn_index": 99_999, "session_hash": "s"}),
        "^404 .*no such function",
    ),
    "a function that is not there, at once": (
        posted("/gradio_api/run/predict", json={"data": [], "fn_index": 99_999}),
        "^404 .*no such function",
    ),
    "a name that is not there": (posted("/gradio_api/call/nothing", json={"data": []}), "^404 .*no such function"),
    "a name that is not there, version 2": (posted("/gradio_api/call/v2/nothing", json={}), "^404 .*no such function"),
    "a session of a long name": (
        posted("/gradio_api/queue/join", json={"data": [], "fn_index": 1, "session_hash": "s" * 10_000}),
        "^400 .*session_hash",
    ),
    "lines for the log": (got("/gradio_api/custom_component/%0Aforged/client/component/x"), "^404 "),
    "a login's token": (got("/gradio_api/token"), "^404 "),
    "a dashboard": (got("/monitoring/summary"), "^404 "),
}
