"""Which of Gradio's and of its own routes this demo serves, how large a request each of them takes, and as what it counts.

A route that is missing here is answered with 404, so that one which a later Gradio adds is not served unseen. Gradio's:
https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py
"""

import re
from dataclasses import dataclass
from enum import Enum

from demo.settings import Settings


# Routes that fetch a web address for whoever asks, or write files that nobody deletes: lines 1302, 1331, 1985 and 2272.
FORBIDDEN_PATHS = re.compile(
    r"/gradio_api/(file[=/][a-z][a-z+.-]+:|proxy=|process_recording|component_server)", re.IGNORECASE
)


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
