"""A picture and its answer in one request: who waits for whom, and what a visitor is told who gets no answer."""

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from demo.decoding import PICTURES
from demo.desk import page_routes
from demo.handlers import Handlers
from demo.serving import find_model
from demo.settings import ModelChoice, Settings
from demo.storage import Files, UploadSpace
from tests.support.hostile_pictures import png_bomb
from tests.support.odd_pictures import encoded
from tests.support.slow_model import CONCURRENCY, FORM, PATIENCE, QUEUE_SIZE, SlowModel, until
from tests.support.tiny_model import save_tiny_model


PLACES, PLACES_OF_ONE = 7, 4  # of one: two that run, and half of those that wait


def test_one_client_never_takes_all_places(tmp_path: Path):
    async def ask() -> None:
        model = SlowModel(tmp_path)
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


def test_all_clients_together_have_so_many_places(tmp_path: Path):
    async def ask() -> None:
        model = SlowModel(tmp_path)
        asked = []
        for number in range(PLACES):
            asked.append(asyncio.create_task(model.client(f"192.0.2.{number}").post("/", **FORM)))
        await until(lambda: model.running == CONCURRENCY)
        refused = await model.client("192.0.2.99").post("/", **FORM)
        assert (refused.status_code, refused.json()["kind"]) == (503, "busy")
        model.may_answer.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(ask())


def test_who_leaves_while_waiting_is_not_answered_and_leaves_a_place(tmp_path: Path):
    async def ask() -> None:
        model = SlowModel(tmp_path)
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


def test_pictures_wait_on_the_disk_and_not_in_memory(tmp_path: Path):
    async def ask() -> None:
        length, most = 8_000_000, 20
        model = SlowModel(tmp_path, queue_size=2 * most, picture_bytes=length)
        picture = {"picture": bytes(length)}
        async with model.client("192.0.2.1") as http:
            asked = [asyncio.create_task(http.post("/", files=picture)) for _ in range(most)]
            await until(lambda: model.running == CONCURRENCY - 1 and model.space.reserved_bytes > most * length)
            await until(lambda: tracemalloc.get_traced_memory()[0] < 5 * length)  # two that run, and what was sent
            model.may_answer.set()
            assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert model.space.reserved_bytes == 0

    tracemalloc.start()
    try:
        asyncio.run(ask())
    finally:
        tracemalloc.stop()


def test_a_picture_that_finds_no_room_on_the_disk_is_refused_and_small_ones_need_none(
    post: Callable[[str, bytes], httpx.Response],
):
    for path in ("/predict", "/page/answer"):
        answer = post(path, bytes(3_000_000))
        expected = "The demo has no room for more pictures at the moment. Try again in some minutes."
        assert (answer.status_code, answer.json()["detail"]) == (507, expected)
        assert post(path, encoded("JPEG")).status_code == 200


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
    space = UploadSpace(Files(tmp_path_factory.mktemp("files")), max_bytes=2_000_000)
    app = Starlette(routes=page_routes(handlers, Settings(), space))
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
