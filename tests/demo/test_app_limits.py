"""The login, the choice of models, the queue limits and the request limits."""

import asyncio
import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from starlette.responses import PlainTextResponse
from transformers import AutoImageProcessor

import demo.limits
from demo.access import TrustedForwarding
from demo.limits import INTERNAL_HEADER, INTERNAL_SECRET, RequestLimits
from demo.serving import ModelNotServable, find_model
from demo.settings import SPACE_PROXIES, ModelChoice, Settings
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.demo_server import ROOT, DemoServer
from tests.support.page_calls import page_joins


PORTRAIT = ROOT / "examples" / "astronaut.jpg"


@contextmanager
def visitor(server: DemoServer, address: str, login: bool = True) -> Iterator[httpx.Client]:
    """A client of its own, as a proxy on this machine would announce it."""
    with httpx.Client(base_url=server.url, headers={"X-Forwarded-For": address}, timeout=60) as http:
        if login:
            http.post("/login", data={"username": "ann", "password": "secret"}).raise_for_status()
        yield http


def ask(http: httpx.Client, picture: object, model: str = "First") -> str:
    call = http.post("/gradio_api/call/predict", json={"data": [picture, True, "4 bins", model]})
    if call.status_code != 200:
        return f"{call.status_code} {call.text}"
    return http.get(f"/gradio_api/call/predict/{call.json()['event_id']}").text


def upload(http: httpx.Client) -> dict:
    [path] = http.post("/gradio_api/upload", files={"files": PORTRAIT.read_bytes()}).raise_for_status().json()
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.slow
def test_without_the_password_nothing_is_served(guarded: DemoServer):
    with visitor(guarded, "192.0.2.1", login=False) as http:
        wrong = http.post("/login", data={"username": "ann", "password": "guess"})
        assert (wrong.status_code, "secret" in wrong.text) == (400, False)
        assert http.get("/config").status_code == 401
        assert http.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert http.post("/gradio_api/queue/join", json={"data": []}).status_code == 401
        assert ask(http, None).startswith("401")
    with visitor(guarded, "192.0.2.1") as http:
        assert '"age_range"' in ask(http, upload(http))


@pytest.mark.slow
def test_answers_come_from_the_model_chosen(guarded: DemoServer):
    client = Client(guarded.url, auth=("ann", "secret"), headers={"X-Forwarded-For": "192.0.2.2"}, verbose=False)
    parameter = client.view_api(return_format="dict")["named_endpoints"]["/predict"]["parameters"][3]
    assert (parameter["parameter_name"], parameter["parameter_default"]) == ("model", "First")
    assert parameter["type"]["enum"] == ["First", "Second"]
    answers = {}
    for name in ("First", "Second"):
        folder = guarded.files.parent / name
        pipe = AgeGenderPipeline(
            model=AgeGenderModel.from_pretrained(folder), image_processor=AutoImageProcessor.from_pretrained(folder)
        )
        answers[name] = client.predict(handle_file(PORTRAIT), model=name, api_name="/predict")
        assert answers[name] == json.loads(json.dumps(pipe(str(PORTRAIT), age_ranges="FairFace-9")))
    assert answers["First"] != answers["Second"]
    assert client.predict(handle_file(PORTRAIT), api_name="/predict") == answers["First"]
    with pytest.raises(AppError, match="Choose one of: First, Second"):
        client.predict(handle_file(PORTRAIT), model="Third", api_name="/predict")


@pytest.mark.slow
def test_full_queue_refuses_with_a_message_and_every_accepted_request_is_answered(guarded: DemoServer):
    with visitor(guarded, "192.0.2.3") as http:
        picture = upload(http)
        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(lambda _: ask(http, picture), range(20)))
        outcomes = Counter(
            "answered"
            if '"age_range"' in answer
            else "busy"
            if re.match("503 .*is busy. Try again", answer)
            else answer
            for answer in answers
        )
        assert set(outcomes) == {"answered", "busy"}
        assert '"age_range"' in ask(http, picture)


@pytest.mark.slow
def test_waiting_webcams_leave_room_for_pictures(guarded: DemoServer):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG")
    frame = {"url": "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()}
    with visitor(guarded, "192.0.2.6") as http:
        event, body = page_joins(http, "webcam", frame)
        events = [event]
        try:
            for number in range(12):  # one visitor may take half of the places only
                another = {"X-Forwarded-For": f"192.0.2.{60 + number // 2}"}
                join = http.post("/gradio_api/queue/join", json=body | {"session_hash": uuid4().hex}, headers=another)
                if join.status_code != 200:
                    break
                events.append(join.json()["event_id"])
            assert (join.status_code, join.json()["detail"]) == (503, "The demo is busy. Try again in a moment.")
            assert len(events) >= 8  # four run, four wait
            assert '"age_range"' in ask(http, upload(http))
        finally:
            for event in events:
                http.post(f"/gradio_api/stream/{event}/close")


@pytest.mark.slow
def test_client_beyond_its_rate_is_told_when_to_return_and_others_are_served(guarded: DemoServer):
    with visitor(guarded, "192.0.2.4", login=False) as http:
        answers = [http.get("/gradio_api/call/predict/x").status_code for _ in range(200)]
        assert 429 not in answers
        assert http.get("/gradio_api/call/predict/x").status_code == 429  # as many as five for each question
        for _ in range(40):
            answer = ask(http, None)
            assert answer.startswith("401")
        answer = ask(http, None)
        assert re.match(r"429 .*Too many requests: at most 40 a minute. Try again in \d+ seconds", answer)
        assert http.get("/robots.txt").status_code == 200
    with visitor(guarded, "192.0.2.5") as http:
        assert '"age_range"' in ask(http, upload(http))


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Callable[..., httpx.Response]:
    """`post(path, now, body)` on a Space that allows three requests a minute, pictures of 1 MB and one in a go."""
    settings = Settings(requests_per_minute=3, max_picture_mb=1, max_pictures=1, mb_per_minute=3, mcp_enabled=True)
    limits = RequestLimits(PlainTextResponse("in"), settings)
    space = httpx.ASGITransport(TrustedForwarding(limits, SPACE_PROXIES), client=("10.16.0.9", 1))

    async def send(path: str, content: bytes, headers: dict) -> httpx.Response:
        async with httpx.AsyncClient(transport=space, base_url="http://demo") as http:
            return await http.post(path, content=content, headers=headers)

    def post(
        path: str = "/gradio_api/queue/join",
        now: float = 0.0,
        content: bytes = b"",
        forwarded_for: str = "192.0.2.1",
        headers: dict | None = None,
    ) -> httpx.Response:
        monkeypatch.setattr(demo.limits.time, "monotonic", lambda: now)
        return asyncio.run(send(path, content, {"X-Forwarded-For": forwarded_for} | (headers or {})))

    return post


def test_the_minute_slides(post: Callable[..., httpx.Response]):
    assert [post(now=now).status_code for now in (0, 30, 59, 59.5)] == [200, 200, 200, 429]
    late = post(now=59.5)
    assert late.headers["Retry-After"] == "1"
    assert [post(now=now).status_code for now in (60.1, 60.2, 90.1)] == [200, 429, 200]


def test_a_client_that_heeds_no_refusal_is_held_back(
    post: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(demo.limits.asyncio, "sleep", sleep)
    statuses = [post().status_code for _ in range(3 + demo.limits.REFUSALS_PER_MINUTE)]
    assert statuses == [200] * 3 + [429] * demo.limits.REFUSALS_PER_MINUTE
    assert pauses == []
    assert post().status_code == 429
    assert pauses == [demo.limits.REFUSAL_SECONDS]
    assert post(forwarded_for="192.0.2.2").status_code == 200
    assert post(now=61).status_code == 200
    assert len(pauses) == 1


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/gradio_api/queue/join", 3),
        ("/gradio_api/nothing-known", 3),
        ("/gradio_api/run/x", 15),
        ("/gradio_api/stream/event/close", 15),
        ("/gradio_api/stream/event", 30),
    ],
)
def test_everything_counts_as_what_it_costs(post: Callable[..., httpx.Response], path: str, most: int):
    statuses = [post(path, now=number / 100).status_code for number in range(most + 1)]
    assert [status == 429 for status in statuses] == [False] * most + [True]


@pytest.mark.parametrize(
    "forwarded_for",
    [
        ["198.51.100.7", "6.6.6.6, 198.51.100.7", "10.0.0.1, 198.51.100.7, 10.16.0.3", "::ffff:198.51.100.7"],
        ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "6.6.6.6, 2001:DB8:1:2:0:0:0:5", "2001:db8:1:2::4, 10.16.0.3"],
    ],
    ids=["IPv4", "IPv6"],
)
def test_client_is_identified_by_the_address_that_the_proxy_saw(
    post: Callable[..., httpx.Response], forwarded_for: list[str]
):
    assert [post(forwarded_for=seen).status_code for seen in forwarded_for] == [200, 200, 200, 429]
    assert post(forwarded_for=f"{forwarded_for[0]}, 198.51.100.8").status_code == 200
    assert post(forwarded_for=f"{forwarded_for[0]}, 2001:db8:1:3::1").status_code == 200


@pytest.mark.parametrize(
    ("secret", "fourth"),
    [(INTERNAL_SECRET, 200), (INTERNAL_SECRET[:-1], 429), ("", 429)],
    ids=["own", "nearly", "none"],
)
def test_internal_requests_are_not_counted(post: Callable[..., httpx.Response], secret, fourth):
    assert [post(headers={INTERNAL_HEADER: secret}).status_code for _ in range(4)] == [200, 200, 200, fourth]


@pytest.mark.parametrize(
    ("path", "largest"),
    [
        ("/login", 4_000),
        ("/gradio_api/cancel", 4_000),
        ("/gradio_api/run/x", 41_500),
        ("/gradio_api/call/x", 41_500),
        ("/gradio_api/queue/join", 2_000_000),
        ("/gradio_api/stream/event", 2_000_000),
        ("/gradio_api/mcp/", 2_000_000),
        ("/gradio_api/upload", 2_000_000),
    ],
)
def test_body_has_a_largest_size(post: Callable[..., httpx.Response], path: str, largest: int):
    assert [post(path, content=bytes(size)).status_code for size in (largest, largest + 1)] == [200, 413]


@pytest.mark.parametrize(("mcp_enabled", "statuses"), [(True, [200, 200]), (False, [404, 413])])
def test_a_demo_without_the_tool_takes_no_bodies_for_it(mcp_enabled: bool, statuses: list[int]):
    limits = RequestLimits(PlainTextResponse("in"), Settings(mcp_enabled=mcp_enabled))

    async def send() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(limits), base_url="http://demo") as http:
            bodies = (b"{}", b"x" * 5_000)
            return [(await http.post("/gradio_api/mcp/", content=body)).status_code for body in bodies]

    assert asyncio.run(send()) == statuses


def test_bytes_of_a_minute_are_limited(post: Callable[..., httpx.Response]):
    bodies = [(0, 2_000_000), (1, 1_000_000), (2, 1), (61, 1_000_000)]
    statuses = [post("/gradio_api/upload", now=now, content=bytes(size)) for now, size in bodies]
    assert [answer.status_code for answer in statuses] == [200, 200, 429, 200]
    assert "At most 3 MB a minute" in statuses[2].text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"model_type": "vit"}', "not an age-and-gender model: its config.json names the type 'vit'"),
        ("{", "not readable"),
    ],
)
def test_folder_of_another_kind_of_model_is_refused_at_the_start(tmp_path: Path, config: str, expected: str):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotServable, match=expected):
        find_model(ModelChoice("other", str(tmp_path)))
