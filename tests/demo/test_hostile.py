"""Requests that are made to stop the demo or to fill its memory: how long each holds it up, and how much memory it takes.

`python -m pytest -s tests/demo/test_hostile.py` prints the figures.
"""

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import httpx
import pytest

from scripts.benchmarks.measuring import meanwhile
from tests.support.demo_server import ROOT, DemoServer
from tests.support.hostile_pictures import (
    png_bomb,
)
from tests.support.hostile_requests import CASES, answer_to
from tests.support.page_calls import FILE_MARK, page_asks
from tests.support.process_memory import memory_mib, watched_memory
from tests.support.tiny_model import save_tiny_model


pytestmark = pytest.mark.slow
MEMORY_MIB = 1536
DECODE_SECONDS = 3
HELD_SECONDS = 3.0  # the longest time that another visitor's small request may wait; some 0.1 on a quiet machine
ANSWER_SECONDS = 60.0  # of a refusal; a busy machine is slow
PORTRAIT = (ROOT / "examples" / "astronaut.jpg").read_bytes()
MEASURED: list[str] = []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """After all tests its memory is back, and its log holds one line a request at most."""
    folder = tmp_path_factory.mktemp("attacked")
    save_tiny_model(folder / "tiny")
    limits = {"DECODE_SECONDS": str(DECODE_SECONDS), "REQUESTS_PER_MINUTE": "1000", "MB_PER_MINUTE": "4000"}
    with DemoServer(folder, MODEL_ID=str(folder / "tiny"), GRADIO_MCP_SERVER="True", **limits) as server:
        start_all_processes(server)
        before = memory_mib(server.pid)
        yield server
        deadline = time.monotonic() + 20
        while memory_mib(server.pid) > 1.2 * before and time.monotonic() < deadline:
            time.sleep(0.5)
        after = memory_mib(server.pid)
        print("\n" + "\n".join([*MEASURED, f"{before:.0f} MiB before, {after:.0f} MiB after"]))
        assert after <= 1.2 * before
    assert server.private_words_in_log() == []
    assert not re.search(r"^forged", server.log, re.MULTILINE)


@pytest.fixture(scope="module", autouse=True)
def idle(demo: DemoServer) -> list["IdleConnection"]:
    """Open while the other tests run."""
    beginnings = (b"", b"GET / HTTP/1.1\r\nX: ", b"GET /robots.txt HTTP/1.1\r\nHost: demo\r\n\r\nGET")
    return [IdleConnection(demo, beginning) for beginning in beginnings]


class IdleConnection:
    """How many seconds a connection lasts whose client sends the beginning of a request and then nothing."""

    def __init__(self, server: DemoServer, beginning: bytes):
        self.beginning, self.lasted = beginning, float("inf")
        self._address = server.url.removeprefix("http://").split(":")
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self) -> None:
        start = time.monotonic()
        with socket.create_connection((self._address[0], int(self._address[1])), timeout=60) as connection:
            connection.sendall(self.beginning)
            while connection.recv(65_536):
                pass
        self.lasted = time.monotonic() - start


def visitor(server: DemoServer, number: int = 1) -> httpx.Client:
    address = {"X-Forwarded-For": f"198.51.100.{number}"}
    return httpx.Client(base_url=server.url, timeout=60, headers=address)


def start_all_processes(server: DemoServer) -> None:
    """Those that decode start when they are needed: two for pictures, one for frames."""
    frame = {"url": "data:image/jpeg;base64," + base64.b64encode(PORTRAIT).decode()}

    def ask(number: int) -> None:
        with visitor(server, number) as http:
            assert '"box"' in answer_to(http, PORTRAIT, "portrait.jpg")
            assert "process_streaming" in page_asks(http, "webcam", frame)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(ask, range(200, 206)))


class Bystander:
    """Another visitor, who asks something small: the longest time it waited."""

    def __init__(self, http: httpx.Client):
        self._http, self.longest = http, 0.0

    def ask(self) -> None:
        start = time.perf_counter()
        self._http.get("/gradio_api/app_id").raise_for_status()
        self.longest = max(self.longest, time.perf_counter() - start)


@pytest.mark.parametrize(("send", "expected"), CASES.values(), ids=CASES.keys())
def test_no_request_stops_the_demo_or_fills_its_memory(
    request: pytest.FixtureRequest, demo: DemoServer, send: Callable[[httpx.Client], str], expected: str
):
    # each attacker anew, so that no case is refused because of those before
    number = 10 + list(CASES).index(request.node.callspec.id)
    with visitor(demo, number) as http, visitor(demo, 2) as other, watched_memory(demo.pid) as memory:
        bystander = Bystander(other)
        with meanwhile(bystander.ask, pause_seconds=0.05):
            start = time.perf_counter()
            answer = send(http)
            took = time.perf_counter() - start
    MEASURED.append(
        f"{request.node.callspec.id:42} answered in {took:5.2f} s, others waited {bystander.longest:5.2f} s, "
        f"peak {memory.peak_mib:5.0f} MiB"
    )
    assert re.search(expected, answer), answer[:500]
    assert took < ANSWER_SECONDS
    assert bystander.longest < HELD_SECONDS
    assert memory.peak_mib < MEMORY_MIB


def answer_by_form(http: httpx.Client, content: bytes, name: str) -> str:
    return http.post("/page/answer", files={"picture": (name, content)}).text


@pytest.mark.parametrize("way", [answer_to, answer_by_form], ids=["by the API", "by the page"])
def test_others_are_answered_while_one_sends_slow_pictures(demo: DemoServer, way: Callable[..., str]):
    slow, attacker, other = png_bomb(7000), *((100, 3) if way is answer_to else (101, 6))
    with visitor(demo, attacker) as greedy, visitor(demo, other) as http, ExitStack() as attacks:
        for number in range(4):
            attacks.enter_context(meanwhile(partial(way, greedy, slow, f"private-name-{number}.png")))
        for _ in range(5):
            start = time.perf_counter()
            assert '"box"' in way(http, PORTRAIT, "portrait.jpg")
            took = time.perf_counter() - start
            MEASURED.append(
                f"a portrait {'by the API' if way is answer_to else 'by the page'} beside slow pictures: {took:.2f} s"
            )
            assert took < ANSWER_SECONDS


def test_a_process_does_not_outlive_its_visitor(demo: DemoServer):
    with visitor(demo, 4) as http:
        [path] = http.post("/gradio_api/upload", files={"files": png_bomb(7000)}).json()
        body = {"data": [{"path": path, "meta": FILE_MARK}, True, "4 bins"]}
        event = http.post("/gradio_api/call/predict", json=body).json()["event_id"]
        with http.stream("GET", f"/gradio_api/call/predict/{event}"):
            time.sleep(0.3)
    start = time.monotonic()
    with visitor(demo, 4) as http:  # the same client may run one at a time, so this one waits for the end of the other
        assert '"box"' in answer_to(http, PORTRAIT, "portrait.jpg")
    MEASURED.append(f"after a visitor has left, its place is free in {time.monotonic() - start:.2f} s")


def test_connections_that_send_nothing_are_closed(idle: list["IdleConnection"]):
    for connection in idle:
        connection.thread.join(45)
        assert connection.lasted < 40, connection.beginning


def test_addresses_of_another_site_are_not_the_demos(demo: DemoServer):
    """Forwarded headers count from a proxy of FORWARDED_ALLOW_IPS; the tests come from such a one."""
    with visitor(demo, 5) as http:
        page = http.get("/config", headers={"X-Gradio-Server": "http://evil.example"}).text
    assert "evil.example" not in page
    assert json.loads(page)["root"] == demo.url
