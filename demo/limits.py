"""What a request must pass before anything reads it: a place the page needs, so many a minute, so many megabytes."""

import re
import secrets
import time
from collections import defaultdict, deque
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


# Gradio would fetch web addresses for whoever asks, and write recordings and components' files that nobody deletes.
CLOSED = re.compile(r"/gradio_api/(file[=/][a-z][a-z+.-]+:|proxy=|process_recording|component_server)", re.IGNORECASE)
# Not counted: a running webcam's frames, whose number has a limit of its own, and what passes by the queue, which is
# choices that need no model. A frame as a data URL is the larger: 640 x 480 pixels as JPEG take some 100 kB.
FREE, FREE_BYTES = ("/gradio_api/stream/", "/gradio_api/run/"), 2_000_000
# By this header the server knows the upload and the question by which its own MCP tool answers a call. The call itself was
# counted, and without the header all assistants together would have the rate of one client.
OWN_HEADER, OWN_SECRET = "x-demo-own-request", secrets.token_hex(16)
# A Space's visitors all come through its proxies, which are taken to have private addresses: a visitor's is the last one
# that is not. What comes before it in X-Forwarded-For the visitor may have made up.
SPACE_PROXIES = "127.0.0.1,::1,10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fc00::/7"
MINUTE = 60.0  # seconds
SWEEP_EVERY = 1000  # requests; then clients that have been silent for a minute are forgotten


class Door:
    """ASGI middleware; answers 403, and POST requests also with 429, 411 or 413, with a sentence to read.

    Args:
        requests_per_minute: of one client (an IPv4 address, or 64 bits of an IPv6 one, which a household has to itself):
            uploads, questions, tool calls and logins each count as one.
        upload_bytes, other_bytes: largest body of an upload and of anything else.
    """

    def __init__(self, app: ASGIApp, requests_per_minute: int, upload_bytes: int, other_bytes: int):
        self.app = app
        self.requests_per_minute = requests_per_minute
        self.upload_bytes, self.other_bytes = upload_bytes, other_bytes
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)
        self._until_sweep = SWEEP_EVERY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and CLOSED.search(scope["path"]):
            refusal = _answer(False, 403, "This demo fetches no web addresses and takes no recordings.")
        elif scope["type"] == "http" and scope["method"] == "POST":
            refusal = self._refuse(scope)
        with suppress(ClientDisconnect):  # a tab that was closed in mid-upload: nobody is left to be answered
            await (refusal or self.app)(scope, receive, send)

    def _refuse(self, scope: Scope) -> Response | None:
        path, headers = scope["path"].rstrip("/"), dict(scope["headers"])
        is_upload = path == "/gradio_api/upload"
        if b"transfer-encoding" in headers:
            return _answer(is_upload, 411, "Send the request with its Content-Length.")
        is_free = path.startswith(FREE)
        most_bytes = self.upload_bytes if is_upload else FREE_BYTES if is_free else self.other_bytes
        if int(headers.get(b"content-length", b"0")) > most_bytes:
            text = f"This is too large: at most {most_bytes / 1e6:.0f} MB can be sent at once."
            return _answer(is_upload, 413, text)
        if is_free or secrets.compare_digest(headers.get(OWN_HEADER.encode(), b""), OWN_SECRET.encode()):
            return None
        wait_seconds = self._count(_household(scope["client"][0]) if scope["client"] else "", time.monotonic())
        if wait_seconds is None:
            return None
        text = f"Too many requests: at most {self.requests_per_minute} a minute. Try again in {wait_seconds} seconds."
        return _answer(is_upload, 429, text, {"Retry-After": str(wait_seconds)})

    def _count(self, client: str, now: float) -> int | None:
        """Note a request, or say in how many seconds the client may send the next one."""
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._until_sweep = SWEEP_EVERY
            for silent in [name for name, times in self._times.items() if times[-1] < now - MINUTE]:
                del self._times[silent]
        times = self._times[client]
        while times and times[0] < now - MINUTE:
            times.popleft()
        if len(times) >= self.requests_per_minute:
            return int(times[0] + MINUTE - now) + 1
        times.append(now)
        return None


def say_busy(_: Request, __: HTTPException) -> Response:
    """In place of Gradio's "Queue is full. Max size is 50 and size is 50."."""
    return _answer(False, 503, "The demo is busy. Try again in a moment.")


def _household(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or int(address) >> 64) if isinstance(address, IPv6Address) else host


def _answer(is_upload: bool, status: int, text: str, headers: dict | None = None) -> Response:
    """As the page shows it: of an upload's answer the whole body, of others the `detail`."""
    return PlainTextResponse(text, status, headers) if is_upload else JSONResponse({"detail": text}, status, headers)
