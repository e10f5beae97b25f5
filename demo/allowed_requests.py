"""Which requests are allowed: on which of Gradio's and of its own routes, as what each counts, how large its body is, how fast it
comes, in which encoding, and how many parts it has.

A route that is missing here is answered with 404, so that one which a later Gradio adds is not served unseen. Gradio's:
https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py
"""

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from python_multipart.multipart import parse_options_header
from starlette.types import Message, Receive

from demo.settings import Settings


# Routes that fetch a web address for whoever asks, or write files that nobody deletes: lines 1302, 1331, 1985 and 2272.
FORBIDDEN_PATHS = re.compile(
    r"/gradio_api/(file[=/][a-z][a-z+.-]+:|proxy=|process_recording|component_server)", re.IGNORECASE
)

MAX_PARTS = 5_000  # values of a JSON document; a call of this page has some 200
MAX_DEPTH = 20  # lists and objects inside each other; a call of the MCP tool has 6
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
IDLE_SECONDS = 20.0  # between two pieces of a body
SLOWEST_BYTES = 50_000  # a second, on average


class Size(Enum):
    """Of a request's body."""

    NOTHING = "nothing"
    LOGIN = "login"  # a form with a name and a password
    WORDS = "words"  # the number of an event
    FORM = "form"  # what the page's functions are called with, but for pictures
    FRAME = "frame"  # the same with a webcam's frame: 640 x 480 pixels as a JPEG in a data URL take some 100 kB
    TOOL = "tool"  # a picture as base64 in the JSON of an MCP call
    PICTURE = "picture"  # a form with one picture
    UPLOAD = "upload"  # several pictures


class Counted(Enum):
    """As what a request counts, and how many a client may send for each of REQUESTS_PER_MINUTE."""

    QUESTION = 1
    SMALL = 5  # needs no model
    FRAME = 10
    FILE = 25  # a page is some 150 of them


@dataclass(frozen=True)
class Route:
    """`is_stream`: the answer stays open, for minutes perhaps."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    counted: Counted
    size: Size = Size.NOTHING
    is_stream: bool = False


READ, POST = ("GET", "HEAD"), ("POST",)


_NAME = r"[^/]+"


def _route(
    methods: tuple[str, ...], path: str, counted: Counted, size: Size = Size.NOTHING, is_stream: bool = False
) -> Route:
    return Route(methods, re.compile(rf"({path})/?"), counted, size, is_stream)


ROUTES = (
    _route(POST, "/predict|/page/answer", Counted.QUESTION, Size.PICTURE),  # of demo/desk.py
    _route(READ, "/(web|examples)/.*", Counted.FILE),
    _route(POST, "/gradio_api/upload", Counted.QUESTION, Size.UPLOAD),
    _route(POST, "/gradio_api/queue/join", Counted.QUESTION, Size.FRAME),  # with the first frame of a webcam
    _route(POST, f"/gradio_api/call/(v2/)?{_NAME}", Counted.QUESTION, Size.FORM),
    _route(POST, f"/gradio_api/(run|api)/{_NAME}", Counted.SMALL, Size.FORM),
    _route(POST, f"/gradio_api/stream/{_NAME}", Counted.FRAME, Size.FRAME),
    _route(POST, f"/gradio_api/stream/{_NAME}/close", Counted.SMALL, Size.WORDS),
    _route(POST, "/gradio_api/(cancel|reset)", Counted.SMALL, Size.WORDS),
    _route(POST, "/login", Counted.QUESTION, Size.LOGIN),
    _route(READ, f"/gradio_api/call/(v2/)?{_NAME}/{_NAME}", Counted.SMALL, is_stream=True),
    _route(READ, "/gradio_api/(queue/data|upload_progress)", Counted.SMALL, is_stream=True),
    _route(READ, f"/gradio_api/heartbeat/{_NAME}", Counted.SMALL, is_stream=True),
    _route(READ, "(/config|/logout)?", Counted.SMALL),
    _route(READ, "/gradio_api/(info|openapi.json|queue/status)", Counted.SMALL),
    _route(READ, "/gradio_api/(app_id|user|login_check|startup-events)", Counted.SMALL),
    _route(READ, "/gradio_api/file[=/].*", Counted.FILE),
    _route(READ, "/(assets|static|svelte)/.*", Counted.FILE),
    _route(READ, "/device/(models|files|code)/.*", Counted.FILE),  # of demo/device_camera.py
    _route(READ, r"(/gradio_api)?/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt", Counted.FILE),
    _route(POST, "/gradio_api/mcp(/.*)?", Counted.QUESTION, Size.TOOL),
    _route(("GET", "HEAD", "DELETE"), "/gradio_api/mcp(/.*)?", Counted.SMALL, is_stream=True),
)


def find_route(method: str, path: str) -> Route | None:
    method = "GET" if method == "OPTIONS" else method  # a browser asks whether it may send the request proper
    matches = (route for route in ROUTES if route.path.fullmatch(path))
    return next((route for route in matches if method in route.methods), None)


def largest_bodies(settings: Settings) -> dict[Size, int]:
    """Bytes."""
    picture = settings.max_picture_mb * 1_000_000
    return {
        Size.NOTHING: 0,
        Size.LOGIN: 4_000,
        Size.WORDS: 4_000,
        Size.FORM: 40_000 + 1_500 * settings.max_pictures,  # the description of an upload
        Size.FRAME: 2_000_000,
        Size.TOOL: 2 * picture,  # base64 takes a third more, and room to spare
        Size.PICTURE: picture + 20_000,
        Size.UPLOAD: settings.max_pictures * picture + 1_000_000,
    }


class BodyRefused(Exception):
    """`status` and `text` of the answer."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


def check_charset(content_type: str) -> None:
    """Python knows codecs whose time grows with the square of the text, and form parsers take the one that is named.

    Raises:
        BodyRefused: another one than UTF-8 is named.
    """
    _, options = parse_options_header(content_type)
    charset = options.get(b"charset", b"utf-8").lower()
    if charset not in (b"utf-8", b"utf8"):
        raise BodyRefused(415, "Expected text in UTF-8; the request names another charset. Send it in UTF-8.")


def check_json(body: bytes) -> None:
    """Counts without parsing, in a time that is proportional to the length and small: 40 MB take some 0.1 s.

    Raises:
        BodyRefused: the document has more than `MAX_PARTS` parts or is nested deeper than `MAX_DEPTH`.
    """
    parts = body.count(b",") + body.count(b"[") + body.count(b"{")
    closed = body.count(b"]") + body.count(b"}")
    # Quotes within texts count too: whether a backslash hides one takes memory to tell, unless they are few.
    if max(parts, closed) > MAX_PARTS or body.count(b'"') > 4 * MAX_PARTS:
        raise BodyRefused(413, f"Expected at most {MAX_PARTS:,} values in one request. Send fewer.")
    depths = accumulate(1 if sign in b"[{" else -1 for piece in _outside_texts(body) for sign in piece)
    if max(depths, default=0) > MAX_DEPTH:
        raise BodyRefused(413, f"Expected lists and objects nested at most {MAX_DEPTH} deep. Send a flatter request.")


def _outside_texts(body: bytes) -> Iterator[bytes]:
    """The brackets of a JSON document that are none of a text's, piece by piece."""
    is_text = False
    for piece in body.split(b'"'):
        if not is_text:
            yield piece.translate(None, _NO_BRACKETS)
        # a quote behind an odd number of backslashes belongs to the text
        is_text = not is_text or (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1


class TimedBody:
    """`receive` of an ASGI application, for which a client that sends nothing, or hardly anything, has left."""

    def __init__(self, receive: Receive, length: int):
        self._receive, self._is_complete, self.is_too_slow = receive, length == 0, False
        self._deadline = time.monotonic() + IDLE_SECONDS + length / SLOWEST_BYTES

    async def __call__(self) -> Message:
        if self._is_complete:  # the application waits for the end of the connection
            return await self._receive()
        try:
            seconds = min(IDLE_SECONDS, self._deadline - time.monotonic())
            message = await asyncio.wait_for(self._receive(), max(seconds, 0.0))
        except TimeoutError:
            self.is_too_slow = True
            return {"type": "http.disconnect"}
        self._is_complete = not message.get("more_body", False)
        return message

    async def read(self) -> bytes | None:
        """The whole body; None where the client has left."""
        parts = []
        while not self._is_complete:
            message = await self()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
        return b"".join(parts)


class ReadBody:
    """`receive` for a body that has been read."""

    def __init__(self, body: bytes, receive: Receive):
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
