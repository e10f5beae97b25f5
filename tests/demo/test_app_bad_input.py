"""What no visitor should send, through the bare HTTP API: a clear answer, a living server, nothing left on disk or in the log."""

import asyncio
import base64
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from tests.support.bad_requests import CASES, LARGEST_MB, MOST_PICTURES, ask, upload
from tests.support.demo_server import ROOT, DemoServer
from tests.support.odd_pictures import encoded
from tests.support.tiny_model import save_tiny_model


pytestmark = pytest.mark.slow
KEEP_SECONDS = 12


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A demo that soon forgets; after all the tests its disk is empty, and its log holds nothing of what was sent."""
    folder = tmp_path_factory.mktemp("forgetful")
    save_tiny_model(folder / "tiny")
    limits = {
        "KEEP_SECONDS": str(KEEP_SECONDS),
        "MAX_PICTURE_MB": str(LARGEST_MB),
        "MAX_PICTURES": str(MOST_PICTURES),
        "REQUESTS_PER_MINUTE": "100000",
        "GRADIO_MCP_SERVER": "True",
    }
    with DemoServer(folder, MODEL_ID=str(folder / "tiny"), **limits) as server:
        yield server
        assert left_after_the_stated_time(server) == []
    assert server.private_words_in_log() == []


def left_after_the_stated_time(server: DemoServer) -> list:
    deadline = time.monotonic() + KEEP_SECONDS + 5  # for a busy machine
    while server.stored_files() and time.monotonic() < deadline:
        time.sleep(0.2)
    return server.stored_files()


@pytest.fixture
def http(demo: DemoServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo.url, timeout=60) as client:
        yield client


@pytest.fixture
def inside() -> Iterator[str]:
    """An address of the server's own network at which nobody may knock."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/picture.jpg"
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(("send", "expected"), CASES.values(), ids=CASES.keys())
def test_bad_input_gets_a_clear_answer_from_a_living_server(
    demo: DemoServer, http: httpx.Client, inside: str, send: Callable[[httpx.Client, str], str], expected: str
):
    answer = send(http, inside)
    assert re.search(expected, answer), answer
    for told in ("root:", str(demo.files), str(ROOT)):  # neither a file's content nor where the server keeps its own
        assert told not in answer
    portrait = ask(http, upload(http, "portrait.jpg", encoded("JPEG")), True, "4 bins")
    assert len(json.loads(portrait.partition("data: ")[2])[0]) == 1


def soon(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def break_off_an_upload(demo: DemoServer, http: httpx.Client) -> None:
    """As a tab that is closed in the middle, when the first half is on disk."""
    before, head = set(demo.stored_files()), 'Content-Disposition: form-data; name="files"; filename="private-name.jpg"'
    with socket.create_connection((http.base_url.host, http.base_url.port)) as server:
        server.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: demo\r\nContent-Length: 2000000\r\n"
            b"Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
            + f"--cut\r\n{head}\r\n\r\n".encode()
            + bytes(500_000)
        )
        assert soon(lambda: not set(demo.stored_files()) <= before)


def misname_an_upload(demo: DemoServer, http: httpx.Client) -> None:
    http.post("/gradio_api/upload", files={"pictures": ("private-name.jpg", encoded("JPEG"))}).raise_for_status()


def name_an_upload_dots(demo: DemoServer, http: httpx.Client) -> None:
    http.post("/gradio_api/upload", files={"files": ("..", encoded("JPEG"))})


def call_the_tool(demo: DemoServer, http: httpx.Client) -> None:
    async def call() -> str:
        connection = streamablehttp_client(f"{demo.url}/gradio_api/mcp/")
        async with connection as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            picture = "data:image/jpeg;base64," + base64.b64encode(encoded("JPEG")).decode()
            text = (await session.call_tool("predict", {"picture": picture})).content[0].text
            assert text.startswith("["), text
            return text

    assert len(json.loads(asyncio.run(call()))) == 1


@pytest.mark.parametrize("send", [misname_an_upload, name_an_upload_dots, call_the_tool])
def test_whatever_is_sent_leaves_a_file_that_is_deleted(
    demo: DemoServer, http: httpx.Client, send: Callable[[DemoServer, httpx.Client], None]
):
    """The fixture `demo` checks at the end that all these files are gone."""
    before = set(demo.stored_files())
    send(demo, http)
    assert set(demo.stored_files()) - before


def test_an_upload_that_is_broken_off_leaves_no_file(demo: DemoServer, http: httpx.Client):
    before = set(demo.stored_files())
    break_off_an_upload(demo, http)
    assert soon(lambda: set(demo.stored_files()) <= before)


def test_a_picture_is_gone_after_the_stated_time(demo: DemoServer, http: httpx.Client):
    picture = upload(http, "private-name.jpg", encoded("JPEG"))
    assert '"box"' in ask(http, picture, True, "4 bins")
    assert http.get(f"/gradio_api/file={picture['path']}").content == encoded("JPEG")
    assert left_after_the_stated_time(demo) == []
    assert "Choose it again" in ask(http, picture, True, "4 bins")


@pytest.mark.parametrize("path", ["/page/answer", "/predict"])
def test_a_picture_that_comes_with_its_question_is_never_a_file(demo: DemoServer, http: httpx.Client, path: str):
    before = demo.stored_files()
    answer = http.post(path, files={"picture": ("private-name.jpg", encoded("JPEG", quality=100))}).raise_for_status()
    assert '"year_probabilities"' in answer.text or '"age_ranges"' in answer.text
    assert demo.stored_files() == before


def test_no_file_of_the_server_is_handed_out(demo: DemoServer, http: httpx.Client):
    for path in ("/etc/passwd", ROOT / "app.py", Path(demo.environment["MODEL_ID"]) / "config.json"):
        assert http.get(f"/gradio_api/file={path}").status_code == 403, path
    for path in ("/web/../app.py", "/web/%2e%2e/app.py", "/examples/../app.py", "/web//etc/passwd", "/web/"):
        assert http.get(path).status_code == 404, path
