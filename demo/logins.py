"""Who has logged in. Guessing passwords is slow, from however many addresses the guesses come."""

from collections import OrderedDict

from starlette.requests import Request


FREE_FAILURES = 20  # of all clients together, before anybody has to wait
LONGEST_DELAY = 300.0  # seconds between two attempts
FORGIVEN_EVERY = 60.0  # seconds: one failure
MAX_KNOWN = 1000  # clients


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
