"""What is read of a request's body before anything parses it: how fast it comes, in which encoding, and how many parts it has."""

import asyncio
import time
from itertools import accumulate

from python_multipart.multipart import parse_options_header
from starlette.types import Message, Receive


MAX_PARTS = 5_000  # values of a JSON document; a call of this page has some 200
MAX_DEPTH = 20  # lists and objects inside each other; a call of the MCP tool has 6
_STRUCTURE = b'"[]{}'
_NOT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
IDLE_SECONDS = 20.0  # between two pieces of a body
SLOWEST_BYTES = 50_000  # a second, on average


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
    quotes = body.count(b'"') - body.count(b'\\"')
    if parts > MAX_PARTS or quotes > 4 * MAX_PARTS:
        raise BodyRefused(413, f"Expected at most {MAX_PARTS:,} values in one request. Send fewer.")
    without_escapes = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(without_escapes.translate(None, _NOT_STRUCTURE).split(b'"')[::2])
    depths = accumulate(1 if sign in b"[{" else -1 for sign in outside_strings)
    if max(depths, default=0) > MAX_DEPTH:
        raise BodyRefused(413, f"Expected lists and objects nested at most {MAX_DEPTH} deep. Send a flatter request.")


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
