"""Who may ask: visitors who have logged in, and pages of this demo.

Guessing passwords is slow, from however many addresses the guesses come. A browser names the page that a request comes from, and
only this demo's own may use the visitor's login. Programs name none, and are not concerned.
"""

from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


FREE_FAILURES = 20  # of all clients together, before anybody has to wait
LONGEST_DELAY = 300.0  # seconds between two attempts
FORGIVEN_EVERY = 60.0  # seconds: one failure
MAX_KNOWN = 1000  # clients

FORWARDED = (b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for", b"x-forwarded-prefix", b"forwarded")
NODE_SERVER = b"x-gradio-server"  # Gradio believes it, but this demo has no Node server
REFUSED = "Another site's page asks here. The operator can allow it by ALLOWED_ORIGINS."
DEFAULT_PORTS = {"http": 80, "https": 443}


class LoginLimits:
    """After `FREE_FAILURES` failed logins each further one doubles the time until anybody may try again.

    Failures of all clients are counted together, because one person can have 2^64 IPv6 prefixes. A client that has logged in
    before, and has not failed since, is not kept out by the guesses of others.
    """

    def __init__(self) -> None:
        self._failures, self._last, self._not_before = 0, 0.0, 0.0
        self._known: OrderedDict[str, None] = OrderedDict()

    def wait_seconds(self, key: str, now: float) -> int | None:
        """Seconds until this client may try; None where it may now."""
        if key in self._known or now >= self._not_before:
            return None
        return int(self._not_before - now) + 1

    def begin(self, key: str, now: float) -> None:
        """Count the attempt as failed until `succeed` is called, so that attempts at the same time count too."""
        forgiven = int((now - self._last) / FORGIVEN_EVERY)
        self._failures = max(0, self._failures - forgiven) + 1
        self._last = now
        beyond = self._failures - FREE_FAILURES
        if beyond > 0:
            self._not_before = now + min(2.0 ** min(beyond, 20), LONGEST_DELAY)
        self._known.pop(key, None)

    def succeed(self, key: str) -> None:
        self._failures = max(0, self._failures - 1)
        if self._failures <= FREE_FAILURES:
            self._not_before = 0.0
        self._known[key] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def is_logged_in(request: Request) -> bool:
    """Whether a request to a route beside Gradio's comes from somebody who may ask; everybody may without DEMO_AUTH.

    Gradio's check belongs to its own routes: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L425
    """
    app = request.app
    if app.auth is None:
        return True
    cookies = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(cookie) in app.tokens for cookie in cookies)


class TrustedForwarding(ProxyHeadersMiddleware):
    """uvicorn's middleware for `X-Forwarded-For` and `X-Forwarded-Proto`, which also drops these and `X-Forwarded-Host` where
    they come from anybody but a proxy of FORWARDED_ALLOW_IPS. Gradio would build the page's addresses from them:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L574
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        if scope["type"] == "http":
            client = scope["client"][0] if scope["client"] else None
            dropped = (NODE_SERVER,) if client in self.trusted_hosts else (*FORWARDED, NODE_SERVER)
            scope["headers"] = [header for header in scope["headers"] if header[0] not in dropped]
        await super().__call__(scope, receive, send)  # type: ignore[arg-type]


class OwnOrigins:
    """ASGI middleware in place of Gradio's `CustomCORSMiddleware`, which lets every origin in, with credentials, wherever the
    demo is not called localhost: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L1140

    Args:
        allowed_origins: of pages that embed the demo, such as https://huggingface.co. Starlette's middleware answers them.
        gradio_options: what Gradio passes to its own.
    """

    def __init__(self, app: ASGIApp, allowed_origins: Sequence[str] = (), **gradio_options: object):
        self.app, self.allowed_origins = app, tuple(allowed_origins)
        self.with_cors = CORSMiddleware(
            app,
            allow_origins=self.allowed_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("origin") in self.allowed_origins:
            await self.with_cors(scope, receive, send)
        elif is_foreign(headers, scope["method"]):
            await JSONResponse({"detail": REFUSED}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send if self.allowed_origins else _with_lax_cookies(send))


def is_foreign(headers: Headers, method: str) -> bool:
    """Whether another site's page sends the request; opening the demo by a link, or in a frame, is not meant.

    See https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none"):  # no page can forge it
        return False
    if origin is not None:
        hosts = (headers.get("x-forwarded-host", "").split(",")[0].strip(), headers.get("host", ""))
        return not any(host and _is_same(origin, host) for host in hosts)
    is_opened = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
    return site in ("cross-site", "same-site") and not is_opened


def _is_same(origin: str, host: str) -> bool:
    """`origin` is a scheme, host and port; `host` as a request names it, without a scheme: a proxy may have ended https."""
    try:
        one = urlsplit(origin)
        other = urlsplit(f"{one.scheme}://{host}")
        default = DEFAULT_PORTS.get(one.scheme)
        return bool(one.hostname) and (one.hostname, one.port or default) == (other.hostname, other.port or default)
    except ValueError:  # no port
        return False


def _with_lax_cookies(send: Send) -> Send:
    """Gradio sets its login's cookie for all sites, so that it works in a frame of another one."""

    async def send_lax(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            cookies = headers.getlist("set-cookie")
            if cookies:
                del headers["set-cookie"]
                for cookie in cookies:
                    headers.append("set-cookie", _lax(cookie))
        await send(message)

    return send_lax


def _lax(cookie: str) -> str:
    parts = [part for part in cookie.split("; ") if not part.lower().startswith("samesite=")]
    return "; ".join([*parts, "SameSite=Lax"])
