"""Request limits: which paths are allowed, how many requests a client may send per minute, and how large they may be."""

import re
import secrets
import time
from collections import defaultdict, deque
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


# Routes of Gradio that fetch a web address for whoever asks, or write files that nobody deletes:
# https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L1302 and lines 1331, 1985 and 2272.
FORBIDDEN_PATHS = re.compile(
    r"/gradio_api/(file[=/][a-z][a-z+.-]+:|proxy=|process_recording|component_server)", re.IGNORECASE
)
# Frames of a running webcam, whose number is limited by the queue, and requests that need no model. The frames are the
# larger ones: 640 x 480 pixels as a JPEG in a data URL take some 100 kB.
UNCOUNTED_PATHS, UNCOUNTED_BYTES = ("/gradio_api/stream/", "/gradio_api/run/"), 2_000_000
# Gradio's MCP server answers a tool call by an upload and a request to its own HTTP server. The call itself is counted.
# This header marks the two others: all MCP clients together would otherwise share the rate of one client.
INTERNAL_HEADER, INTERNAL_SECRET = "x-demo-internal-request", secrets.token_hex(16)
# The proxies of a Space have private addresses. The client is the last address in X-Forwarded-For that is not one of
# them: the client may have made up those before it.
SPACE_PROXIES = "127.0.0.1,::1,10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fc00::/7"
BUSY = "The demo is busy. Try again in a moment."
WINDOW_SECONDS = 60.0
CLEAN_UP_EVERY = 1000  # requests; then clients without a request in the last minute are dropped from memory


class RequestLimits:
    """ASGI middleware that answers 403 to forbidden paths, and 411, 413 or 429 to POST requests beyond the limits.

    Args:
        requests_per_minute: of one client, as `client_key` identifies it. Uploads, predictions, MCP calls and logins each
            count as one.
        upload_bytes, other_bytes: largest body of an upload, and of any other request.
    """

    def __init__(self, app: ASGIApp, requests_per_minute: int, upload_bytes: int, other_bytes: int):
        self.app = app
        self.requests_per_minute = requests_per_minute
        self.upload_bytes, self.other_bytes = upload_bytes, other_bytes
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)  # client key -> times of the last minute
        self._until_clean_up = CLEAN_UP_EVERY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and FORBIDDEN_PATHS.search(scope["path"]):
            refusal = _refusal(False, 403, "This demo fetches no web addresses and takes no recordings.")
        elif scope["type"] == "http" and scope["method"] == "POST":
            refusal = self._check_post(scope)
        with suppress(ClientDisconnect):  # the visitor closed the tab during an upload
            await (refusal or self.app)(scope, receive, send)

    def _check_post(self, scope: Scope) -> Response | None:
        """The refusal, or None where the request is within the limits."""
        path, headers = scope["path"].rstrip("/"), Headers(scope=scope)
        is_upload = path == "/gradio_api/upload"
        if "transfer-encoding" in headers:
            return _refusal(is_upload, 411, "Send the request with its Content-Length.")
        is_uncounted = path.startswith(UNCOUNTED_PATHS)
        max_bytes = self.upload_bytes if is_upload else UNCOUNTED_BYTES if is_uncounted else self.other_bytes
        if int(headers.get("content-length", 0)) > max_bytes:
            text = f"This is too large: at most {max_bytes / 1e6:.0f} MB can be sent at once."
            return _refusal(is_upload, 413, text)
        is_internal = secrets.compare_digest(headers.get(INTERNAL_HEADER, "").encode(), INTERNAL_SECRET.encode())
        if is_uncounted or is_internal:
            return None
        key = client_key(scope["client"][0]) if scope["client"] else ""
        wait_seconds = self._count(key, time.monotonic())
        if wait_seconds is None:
            return None
        text = f"Too many requests: at most {self.requests_per_minute} a minute. Try again in {wait_seconds} seconds."
        return _refusal(is_upload, 429, text, {"Retry-After": str(wait_seconds)})

    def _count(self, key: str, now: float) -> int | None:
        """Count a request of the client, or return the seconds until it may send the next one."""
        self._until_clean_up -= 1
        if self._until_clean_up <= 0:
            self._until_clean_up = CLEAN_UP_EVERY
            for silent in [name for name, times in self._times.items() if times[-1] < now - WINDOW_SECONDS]:
                del self._times[silent]
        times = self._times[key]
        while times and times[0] < now - WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self.requests_per_minute:
            return int(times[0] + WINDOW_SECONDS - now) + 1
        times.append(now)
        return None


def client_key(host: str) -> str:
    """Identify a client: its IPv4 address, or the /64 prefix of its IPv6 address, which one household has to itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)


def _refusal(is_upload: bool, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """The page shows the whole body of an upload's answer, and the `detail` of any other answer."""
    return PlainTextResponse(text, status, headers) if is_upload else JSONResponse({"detail": text}, status, headers)
