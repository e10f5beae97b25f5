"""Limits of requests and connections: which routes are served, how much a client may send per minute, and how large and how
slow it may be; uvicorn's own settings, and what it has none for.
"""

import asyncio
import logging
import secrets
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from gradio.http_server import Server
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from demo.access import LoginLimits, TrustedForwarding
from demo.allowed_requests import (
    FORBIDDEN_PATHS,
    BodyRefused,
    Counted,
    ReadBody,
    Route,
    Size,
    TimedBody,
    check_charset,
    check_json,
    find_route,
    largest_bodies,
)
from demo.fair_use import BUSY, MinuteMeter, client_key
from demo.settings import Settings


logger = logging.getLogger(__name__)
# Gradio's MCP server answers a tool call by an upload and a request to its own HTTP server. The call itself is counted.
# This header marks the two others: all MCP clients together would otherwise share the rate of one client.
INTERNAL_HEADER, INTERNAL_SECRET = "x-demo-internal-request", secrets.token_hex(16)
MAX_QUERY_BYTES = 2_000  # Gradio keeps parts of some for ever
MAX_HEADER_BYTES = 16_000
MAX_STREAMS = 40  # open answers of one client; a page has two
STALLED_SECONDS = 60.0  # after which a client that takes nothing of its answer has left
# A client that has been refused so often in a minute waits for its next refusal: asking in a loop would take processor time.
REFUSALS_PER_MINUTE, REFUSAL_SECONDS = 60, 1.0
BUFFER_BYTES = 150_000_000  # of all bodies that are being read

HEADER_BYTES = 32_000
HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15
MAX_PER_CLIENT = 100  # connections


class RequestLimits:
    """ASGI middleware that answers with a refusal whatever is beyond the limits; see `demo.allowed_requests` and `Settings`."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings
        self.largest = largest_bodies(settings)
        self.bytes_per_minute = max(settings.mb_per_minute * 1_000_000, self.largest[Size.UPLOAD])
        self._requests = {counted: MinuteMeter() for counted in Counted}
        self._bytes, self._refusals, self._logins = MinuteMeter(), MinuteMeter(), LoginLimits()
        self._streams: Counter[str] = Counter()
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # the demo has no websockets
                await self.app(scope, receive, send)
            return
        response = _Response(send)
        try:
            await self._answer(scope, receive, response)
        except ClientDisconnect:  # the visitor closed the tab during an upload
            pass
        except Exception as error:
            # Neither the exception's text nor a traceback: they can hold what the visitor sent, and lines of its making.
            logger.error("a request failed: %s in %s", type(error).__name__, _last_line(error))
            if not response.has_started:
                await _refusal(500, "The demo has failed. Try again.")(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: "_Response") -> None:
        headers, route = Headers(scope=scope), find_route(scope["method"], scope["path"])
        if route is not None and route.size is Size.TOOL and not self.settings.mcp_enabled:
            route = None
        key = client_key(scope["client"][0]) if scope["client"] else ""
        refusal = self._check(scope, headers, route, key)
        if refusal is not None or route is None:
            await self._hold_back(key)
            await (refusal or _refusal(404, "There is nothing here."))(scope, receive, send)
            return
        length = int(headers.get("content-length", 0))
        body = TimedBody(receive, length)
        if route.is_stream:
            self._streams[key] += 1
        try:
            if route.size in (Size.NOTHING, Size.PICTURE, Size.UPLOAD):
                await self._pass_on(route, key, scope, body, send)
            else:
                await self._read_and_pass_on(route, key, length, scope, body, send)
        except BodyRefused as refused:
            await _refusal(refused.status, refused.text)(scope, receive, send)
        finally:
            if route.is_stream:
                self._streams[key] -= 1
                if not self._streams[key]:
                    del self._streams[key]
            if body.is_too_slow and not send.has_started:
                text = "The request came too slowly. Send it again."
                await _refusal(408, text, route, {"Connection": "close"})(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers, route: Route | None, key: str) -> Response | None:
        """The refusal, or None where the request is within the limits."""
        if FORBIDDEN_PATHS.search(scope["path"]):
            return _refusal(403, "This demo fetches no web addresses and takes no recordings.")
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            return _refusal(414, f"Expected at most {MAX_QUERY_BYTES:,} characters after the question mark.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            return _refusal(431, f"Expected headers of at most {MAX_HEADER_BYTES:,} characters in all.")
        if "transfer-encoding" in headers:
            return _refusal(411, "Send the request with its Content-Length.", route)
        text = headers.get("content-length", "0")
        most = self.largest[route.size if route else Size.WORDS]
        if not text.isdecimal() or int(text) > most:
            shown = f"{most / 1e6:.0f} MB" if most >= 1e6 else f"{most / 1e3:.0f} kB"
            return _refusal(413, f"This is too large: at most {shown} can be sent at once.", route)
        if self._streams[key] >= MAX_STREAMS and route is not None and route.is_stream:
            return _refusal(429, f"Too many open answers: at most {MAX_STREAMS}. Close some of the pages.")
        try:
            check_charset(headers.get("content-type", ""))
        except BodyRefused as refused:
            return _refusal(refused.status, refused.text, route)
        if secrets.compare_digest(headers.get(INTERNAL_HEADER, "").encode(), INTERNAL_SECRET.encode()):
            return None
        return self._count(route, key, int(text))

    async def _hold_back(self, key: str) -> None:
        """Before a refusal of a client that does not heed them."""
        now = time.monotonic()
        if self._refusals.wait_seconds(key, now, REFUSALS_PER_MINUTE) is not None:
            await asyncio.sleep(REFUSAL_SECONDS)
        self._refusals.add(key, now, 1)

    def _count(self, route: Route | None, key: str, length: int) -> Response | None:
        """Count the request and its bytes, or tell how long to wait until the next one."""
        counted, now = route.counted if route else Counted.QUESTION, time.monotonic()
        requests, most = self._requests[counted], self.settings.requests_per_minute * counted.value
        wait = requests.wait_seconds(key, now, most, 1)
        if wait is not None:
            text = f"Too many requests: at most {most} a minute. Try again in {wait} seconds."
            return _refusal(429, text, route, {"Retry-After": str(wait)})
        requests.add(key, now, 1)
        wait = self._bytes.wait_seconds(key, now, self.bytes_per_minute, length)
        if wait is not None:
            text = f"At most {self.bytes_per_minute // 1_000_000} MB a minute can be sent. Try again in {wait} seconds."
            return _refusal(429, text, route, {"Retry-After": str(wait)})
        if length:
            self._bytes.add(key, now, length)
        return None

    async def _read_and_pass_on(
        self, route: Route, key: str, length: int, scope: Scope, body: TimedBody, send: "_Response"
    ) -> None:
        """Raises `BodyRefused`."""
        if self._buffered_bytes + length > BUFFER_BYTES:
            raise BodyRefused(503, BUSY)
        self._buffered_bytes += length
        try:
            content = await body.read()
            if content is None:
                return
            if route.size is not Size.LOGIN:
                check_json(content)
            await self._pass_on(route, key, scope, ReadBody(content, body), send)
        finally:
            self._buffered_bytes -= length

    async def _pass_on(self, route: Route, key: str, scope: Scope, receive: Receive, send: "_Response") -> None:
        if route.size is not Size.LOGIN:
            await self.app(scope, receive, send)
            return
        wait = self._logins.wait_seconds(key, time.monotonic())
        if wait is not None:
            text = f"Too many failed logins. Try again in {wait} seconds."
            await _refusal(429, text, route, {"Retry-After": str(wait)})(scope, receive, send)
            return
        self._logins.begin(key, time.monotonic())
        await self.app(scope, receive, send)
        if send.status == 200:
            self._logins.succeed(key)


class _Response:
    """`send` that remembers the status, and for which a client that reads nothing has left."""

    def __init__(self, send: Send):
        self._send, self.status = send, 0

    @property
    def has_started(self) -> bool:
        return self.status != 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        try:
            await asyncio.wait_for(self._send(message), STALLED_SECONDS)
        except TimeoutError:
            raise ClientDisconnect from None


def _refusal(status: int, text: str, route: Route | None = None, headers: dict[str, str] | None = None) -> Response:
    """The page shows the whole body of an upload's answer, and the `detail` of any other answer."""
    if route is not None and route.size is Size.UPLOAD:
        return PlainTextResponse(text, status, headers)
    return JSONResponse({"detail": text}, status, headers)


def _last_line(error: BaseException) -> str:
    """Where in the code an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "no code"


def configure(config: Config, settings: Settings) -> None:
    """Set the limits in uvicorn's configuration before it is loaded."""
    config.http = LimitedProtocol  # uvicorn limits the size of headers in its h11 protocol only
    config.h11_max_incomplete_event_size = HEADER_BYTES
    config.limit_concurrency = settings.max_connections
    config.timeout_keep_alive = KEEP_ALIVE_SECONDS
    config.ws = "none"
    config.server_header = False
    config.proxy_headers = False  # TrustedForwarding does it
    trusted = config.forwarded_allow_ips
    LimitedProtocol.trusted = TrustedForwarding(RequestLimits(config.app, settings), trusted)  # type: ignore[arg-type]
    config.app = LimitedProtocol.trusted


class LimitedServer(Server):
    """Gradio passes hardly any of uvicorn's settings on:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/http_server.py#L137
    """

    def __init__(self, settings: Settings, config: Config, **options: Any):
        configure(config, settings)
        super().__init__(config, **options)


class LimitedProtocol(H11Protocol):
    """Closes a connection whose client takes long to name its request, and those beyond `MAX_PER_CLIENT`."""

    trusted: TrustedForwarding
    open: Counter[str] = Counter()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._header_deadline: asyncio.TimerHandle | None = None
        host = self.client[0] if self.client else ""
        self._key = "" if host in self.trusted.trusted_hosts else client_key(host)  # a proxy's are of many clients
        self.open[self._key] += 1
        if self._key and self.open[self._key] > MAX_PER_CLIENT:
            transport.abort()
        else:
            self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.open[self._key] -= 1
        if not self.open[self._key]:
            del self.open[self._key]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._header_deadline is None:  # the first bytes of a further request
            self._wait_for_header()

    def _wait_for_header(self) -> None:
        self._header_deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None
