"""What a request must pass before anything reads it: so many a minute from one client, and so many megabytes."""

import time
from collections import defaultdict, deque

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


# A running webcam's frames, which have limits of their own, and what never reaches the model: Gradio lets nothing pass by
# its queue with `api_open=False`.
FREE = ("/gradio_api/stream/", "/gradio_api/run/")
MINUTE = 60.0  # seconds
SWEEP_EVERY = 1000  # requests; then clients that have been silent for a minute are forgotten


class Door:
    """ASGI middleware; it looks at POST requests alone, and answers 429, 411 or 413 with a sentence to read.

    Args:
        requests_per_minute: of one client: uploads, questions, tool calls and logins each count as one.
        upload_bytes, other_bytes: largest body of an upload and of anything else.
    """

    def __init__(self, app: ASGIApp, requests_per_minute: int, upload_bytes: int, other_bytes: int):
        self.app = app
        self.requests_per_minute = requests_per_minute
        self.upload_bytes, self.other_bytes = upload_bytes, other_bytes
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)
        self._until_sweep = SWEEP_EVERY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refuse(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (refusal or self.app)(scope, receive, send)

    def _refuse(self, scope: Scope) -> Response | None:
        path, headers = scope["path"].rstrip("/"), dict(scope["headers"])
        is_upload = path.endswith("/upload")
        if b"transfer-encoding" in headers:
            return _answer(is_upload, 411, "Send the request with its Content-Length.")
        most_bytes = self.upload_bytes if is_upload else self.other_bytes
        if int(headers.get(b"content-length", b"0")) > most_bytes:
            text = f"This is too large: at most {most_bytes / 1e6:.0f} MB can be sent at once."
            return _answer(is_upload, 413, text)
        if path.startswith(FREE):
            return None
        wait_seconds = self._count(scope["client"][0] if scope["client"] else "", time.monotonic())
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


def _answer(is_upload: bool, status: int, text: str, headers: dict | None = None) -> Response:
    """As the page shows it: of an upload's answer the whole body, of others the `detail`."""
    return PlainTextResponse(text, status, headers) if is_upload else JSONResponse({"detail": text}, status, headers)
