"""A picture and its answer in one request: who waits for whom, and what a visitor is told who gets no answer."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from demo.decoding import PICTURES
from demo.desk import Desk, page_routes
from demo.handlers import Handlers
from demo.serving import find_model
from demo.settings import ModelChoice, Settings
from tests.support.hostile_pictures import png_bomb
from tests.support.odd_pictures import encoded
from tests.support.tiny_model import save_tiny_model


CONCURRENCY, QUEUE_SIZE = 3, 4
PLACES, PLACES_OF_ONE = 7, 4  # of one: two that run, and half of those that wait
FORM = {"files": {"picture": b"a picture"}}
PATIENCE = 30.0  # seconds, on a busy machine


class SlowModel:
    """Answers nobody before `may_answer` is set, except those whose picture says that they are quick."""

    def __init__(self) -> None:
        self.may_answer, self.running = threading.Event(), 0
        self.desk = Desk(CONCURRENCY, QUEUE_SIZE, picture_bytes=1000)
        self.app = Starlette(routes=[Route("/", self.desk.taking(self.answer), methods=["POST"])])
        self.app.auth = None  # as Gradio's application has it without a login

    def answer(self, picture: bytes, form: object) -> str:
        self.running += 1
        if picture != b"quick":
            assert self.may_answer.wait(PATIENCE)
        return "answered"

    def client(self, address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, client=(address, 1)), base_url="http://demo")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.01)


def test_one_client_never_takes_all_places():
    async def ask() -> None:
        model = SlowModel()
        async with model.client("192.0.2.1") as greedy, model.client("192.0.2.2") as other:
            asked = [asyncio.create_task(greedy.post("/", **FORM)) for _ in range(10)]
            await until(lambda: sum(task.done() for task in asked) == 10 - PLACES_OF_ONE)
            assert {task.result().status_code for task in asked if task.done()} == {503}
            await until(lambda: model.running == CONCURRENCY - 1)
            for _ in range(3):  # although two of the other client's pictures wait
                answer = await other.post("/", files={"picture": b"quick"})
                assert (answer.status_code, answer.json()) == (200, "answered")
            model.may_answer.set()
            statuses = Counter(answer.status_code for answer in await asyncio.gather(*asked))
            assert statuses == {200: PLACES_OF_ONE, 503: 10 - PLACES_OF_ONE}
            assert (await greedy.post("/", **FORM)).status_code == 200  # its places are free again

    asyncio.run(ask())


def test_all_clients_together_have_so_many_places():
    async def ask() -> None:
        model = SlowModel()
        asked = []
        for number in range(PLACES):
            asked.append(asyncio.create_task(model.client(f"192.0.2.{number}").post("/", **FORM)))
        await until(lambda: model.running == CONCURRENCY)
        refused = await model.client("192.0.2.99").post("/", **FORM)
        assert (refused.status_code, refused.json()["kind"]) == (503, "busy")
        model.may_answer.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(ask())


def test_who_leaves_while_waiting_is_not_answered_and_leaves_a_place():
    async def ask() -> None:
        model = SlowModel()
        clients = [model.client(f"192.0.2.{number}") for number in range(PLACES)]
        running = [asyncio.create_task(client.post("/", **FORM)) for client in clients[:CONCURRENCY]]
        await until(lambda: model.running == CONCURRENCY)
        leaving = [asyncio.create_task(leave_after_asking(model.app, number)) for number in range(QUEUE_SIZE)]
        async with asyncio.timeout(PATIENCE):
            left = await asyncio.gather(*leaving, return_exceptions=True)
        assert [type(error) for error in left] == [ClientDisconnect] * QUEUE_SIZE
        waiting = [asyncio.create_task(client.post("/", **FORM)) for client in clients[CONCURRENCY:]]
        model.may_answer.set()
        assert {answer.status_code for answer in await asyncio.gather(*running, *waiting)} == {200}
        assert model.running == PLACES

    asyncio.run(ask())


async def leave_after_asking(app: Starlette, number: int) -> None:
    """As a browser whose tab is closed when its picture has been sent."""
    request = httpx.Request("POST", "http://demo/", **FORM)
    messages = [{"type": "http.request", "body": request.read()}]
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}

    async def receive() -> dict:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        assert message.get("status") != 200

    await app(scope | {"client": (f"198.51.100.{number}", 1)}, receive, send)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder)
    handlers = Handlers([find_model(ModelChoice("tiny", str(folder)))], concurrency=1)
    app = Starlette(routes=page_routes(handlers, Settings()))
    app.auth = None
    return app


@pytest.fixture
def post(routes: Starlette, request: pytest.FixtureRequest) -> Iterator[Callable[[str, bytes], httpx.Response]]:
    """`post(path, picture)`, by a client of the test's own."""

    async def send(path: str, picture: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(routes, client=(request.node.name, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as http:
            return await http.post(path, files={"picture": picture})

    return lambda path, picture: asyncio.run(send(path, picture))


@pytest.mark.parametrize("path", ["/predict", "/page/answer"])
@pytest.mark.parametrize(
    ("limits", "picture", "status", "kind"),
    [
        ({}, lambda: b"no picture", 400, "picture"),
        ({"seconds": 0.0}, lambda: png_bomb(4000), 400, "too_costly"),  # takes some 0.3 s
        ({"seconds_per_minute": 0.0}, lambda: encoded("JPEG"), 429, "too_often"),
    ],
    ids=["no picture", "too slow", "too many"],
)
def test_the_page_learns_why_a_picture_is_refused(
    post: Callable[[str, bytes], httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    limits: dict[str, float],
    picture: Callable[[], bytes],
    status: int,
    kind: str,
):
    """Both routes decode in a process that ends at its deadline."""
    for name, value in limits.items():
        monkeypatch.setattr(PICTURES, name, value)
    answer = post(path, picture())
    assert (answer.status_code, answer.json()["kind"]) == (status, kind), answer.text
    assert ("Retry-After" in answer.headers) == (status == 429)


@pytest.mark.parametrize("path", ["/predict", "/page/answer"])
def test_a_picture_that_finds_no_place_to_be_decoded_is_told_that_the_demo_is_busy(
    post: Callable[[str, bytes], httpx.Response], monkeypatch: pytest.MonkeyPatch, path: str
):
    monkeypatch.setattr("demo.decoding.WAIT_SECONDS", 0.0)
    answer = post(path, encoded("JPEG"))
    assert (answer.status_code, answer.json()) == (
        503,
        {"detail": "The demo is busy. Try again in a moment.", "kind": "busy"},
    )
