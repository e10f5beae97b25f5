"""Whose page may ask the demo, whose headers count, and how often passwords may be guessed."""

import asyncio

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from demo.access import FREE_FAILURES, LoginLimits, OwnOrigins, TrustedForwarding
from demo.settings import Settings, SettingsError
from tests.support.demo_server import DemoServer


EMBEDDER = "https://embedder.example"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the headers that have come, and sets a cookie as Gradio's login does."""
    seen = {name.decode(): value.decode() for name, value in scope["headers"]} | {"client": scope["client"][0]}
    response = JSONResponse(seen)
    response.set_cookie("token", "x", httponly=True, samesite="none", secure=True)
    await response(scope, receive, send)


def ask(served: object, headers: dict, method: str = "POST", peer: str = "10.0.0.9") -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(served, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://demo.example") as http:
            return await http.request(method, "/gradio_api/queue/join", headers=headers)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ({}, "POST", 200),  # a program
        ({"Origin": "http://demo.example"}, "POST", 200),
        ({"Origin": "https://demo.example"}, "POST", 200),  # a proxy may have ended https
        ({"Origin": "https://demo.example:8443"}, "POST", 403),
        ({"Origin": "https://demo.example", "X-Forwarded-Host": "demo.example:443"}, "POST", 200),
        ({"Origin": "https://demo.example", "Sec-Fetch-Site": "same-origin"}, "POST", 200),
        ({"Origin": "http://evil.example"}, "POST", 403),
        ({"Origin": "http://evil.example"}, "GET", 403),
        ({"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}, "OPTIONS", 403),
        ({"Origin": "http://demo.example.evil.example"}, "POST", 403),
        ({"Origin": "null"}, "POST", 403),
        ({"Origin": EMBEDDER}, "POST", 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "GET", 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "GET", 200),  # a link to the demo
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "POST", 403),  # a form
        ({"Sec-Fetch-Site": "none"}, "GET", 200),
    ],
)
def test_only_the_demos_own_page_and_allowed_ones_may_ask(headers: dict, method: str, status: int):
    answer = ask(OwnOrigins(app, [EMBEDDER], strict_cors=True, parent_app=None), headers, method)
    assert answer.status_code == status
    allowed = headers.get("Origin") if headers.get("Origin") == EMBEDDER else None
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed


@pytest.mark.parametrize(("allowed", "same_site"), [([], "SameSite=Lax"), ([EMBEDDER], "SameSite=none")])
def test_the_logins_cookie_is_sent_to_other_sites_only_where_they_embed_the_demo(allowed: list[str], same_site: str):
    assert same_site in ask(OwnOrigins(app, allowed), {}).headers["Set-Cookie"]


@pytest.mark.parametrize(("peer", "is_trusted"), [("10.0.0.9", True), ("192.0.2.1", False)])
def test_forwarded_headers_count_from_a_trusted_proxy_only(peer: str, is_trusted: bool):
    forwarded = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
    seen = ask(TrustedForwarding(app, "10.0.0.0/8"), forwarded | {"X-Gradio-Server": "evil"}, peer=peer).json()
    assert seen["client"] == ("198.51.100.1" if is_trusted else peer)
    assert ("x-forwarded-host" in seen, "x-gradio-server" in seen) == (is_trusted, False)


@pytest.mark.parametrize(
    "text", ["example.org", "https://a.example/path", "*", "https://*.example", "https://u@x.example"]
)
def test_allowed_origins_are_sites(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("ALLOWED_ORIGINS", f"https://good.example, {text}")
    with pytest.raises(SettingsError, match="ALLOWED_ORIGINS must list sites"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("on_space", "text", "expected"),
    [
        (False, None, ()),
        (True, None, ("https://huggingface.co",)),
        (True, "", ()),
        (False, "https://a.example, http://b.example:8080", ("https://a.example", "http://b.example:8080")),
    ],
)
def test_a_space_is_embedded_by_the_hub(monkeypatch, on_space: bool, text: str | None, expected: tuple[str, ...]):
    for name, value in (("SPACE_ID", "user/space" if on_space else None), ("ALLOWED_ORIGINS", text)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert Settings.from_environment().allowed_origins == expected


def test_guesses_from_ever_new_addresses_become_slow_and_who_knows_the_password_gets_in():
    limits, now, tries = LoginLimits(), 0.0, 0
    limits.begin("ann", now)
    limits.succeed("ann")
    while now < 3600:
        key = f"2001:db8:{tries:x}::/64"
        wait = limits.wait_seconds(key, now)
        if wait is None:
            limits.begin(key, now)
            tries += 1
        now += wait or 0.01
    assert FREE_FAILURES < tries < 100  # in an hour
    limits.begin("guess", now)
    assert limits.wait_seconds("new", now) is not None
    assert limits.wait_seconds("ann", now) is None
    assert limits.wait_seconds("new", now + 300) is None


@pytest.mark.slow
def test_the_demo_with_a_login_keeps_it_to_its_own_page(guarded: DemoServer):
    with httpx.Client(base_url=guarded.url, headers={"X-Forwarded-For": "192.0.2.40"}, timeout=60) as http:
        login = http.post("/login", data={"username": "ann", "password": "secret"})
        cookies = login.headers.get_list("set-cookie")
        assert len(cookies) == 2
        assert all("SameSite=Lax" in cookie and "None" not in cookie.replace("; Max", "") for cookie in cookies)
        assert http.get("/gradio_api/token").status_code == 404
        for path in ("/config", "/gradio_api/info", "/gradio_api/user"):
            answer = http.get(path, headers={"Origin": "http://evil.example"})
            assert answer.status_code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
        assert http.get("/config", headers={"Origin": guarded.url}).status_code == 200
        assert http.get("/", headers={"Host": "demo.example"}).status_code == 200
