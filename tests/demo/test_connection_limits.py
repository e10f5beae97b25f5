"""Limits of connections, of open answers, of slow bodies and of what is stored, over HTTP."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from demo.allowed_requests import IDLE_SECONDS
from demo.limits import MAX_STREAMS
from tests.support.demo_server import ROOT, DemoServer
from tests.support.tiny_model import save_tiny_model


pytestmark = pytest.mark.slow
MAX_CONNECTIONS = MAX_STREAMS + 20
PORTRAIT = (ROOT / "examples" / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    folder = tmp_path_factory.mktemp("limited")
    save_tiny_model(folder / "tiny")
    limits = {"MAX_STORED_MB": "1", "MAX_CONNECTIONS": str(MAX_CONNECTIONS), "REQUESTS_PER_MINUTE": "1000"}
    with DemoServer(folder, MODEL_ID=str(folder / "tiny"), **limits) as server:
        yield server


def connected(server: DemoServer) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port), timeout=60)


def status_of(server: DemoServer, address: str, connections: ExitStack, path: str) -> int:
    """Of the answer to a request whose connection stays open as long as `connections`."""
    connection = connections.enter_context(connected(server))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: demo\r\nX-Forwarded-For: {address}\r\n\r\n".encode())
    return int(connection.recv(65_536).split()[1])


def test_a_quota_is_answered_with_507(limited: DemoServer):
    before = limited.stored_files()
    with httpx.Client(base_url=limited.url, timeout=60, headers={"X-Forwarded-For": "192.0.2.1"}) as http:
        for path, name in (("/gradio_api/upload", "files"), ("/predict", "picture"), ("/page/answer", "picture")):
            refused = http.post(path, files={name: ("private-name.jpg", bytes(3_000_000))})
            assert (refused.status_code, "has no room for more pictures" in refused.text) == (507, True), path
        assert limited.stored_files() == before
        assert http.post("/page/answer", files={"picture": PORTRAIT}).status_code == 200


def test_one_client_has_so_many_open_answers(limited: DemoServer):
    with ExitStack() as open_answers:
        statuses = [
            status_of(limited, "192.0.2.2", open_answers, f"/gradio_api/heartbeat/s{number}")
            for number in range(MAX_STREAMS + 1)
        ]
        assert statuses == [200] * MAX_STREAMS + [429]
        assert status_of(limited, "192.0.2.3", open_answers, "/gradio_api/heartbeat/other") == 200


def test_all_clients_together_have_so_many_connections(limited: DemoServer):
    with ExitStack() as connections:
        for _ in range(MAX_CONNECTIONS):
            connections.enter_context(connected(limited))
        assert status_of(limited, "192.0.2.4", connections, "/gradio_api/app_id") == 503
    deadline = time.monotonic() + 30
    while httpx.get(f"{limited.url}/gradio_api/app_id").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert httpx.get(f"{limited.url}/gradio_api/app_id").status_code == 200


def test_a_body_that_drips_is_refused(limited: DemoServer):
    head = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: demo\r\nContent-Length: 1000\r\n\r\n"
    with connected(limited) as connection:
        start = time.monotonic()
        connection.sendall(head)
        connection.settimeout(1.0)
        answer = b""
        while not answer and time.monotonic() < start + 3 * IDLE_SECONDS:
            connection.sendall(b"[")
            try:
                answer = connection.recv(65_536)
            except TimeoutError:
                continue
    assert answer.split()[1] == b"408"
    assert time.monotonic() - start > IDLE_SECONDS - 1
