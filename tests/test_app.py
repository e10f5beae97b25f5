"""The demo's promises beyond its page: the HTTP API, bad input, privacy, and how it fails to start."""

import ast
import asyncio
import base64
import io
import json
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi, constants
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor

import app
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.demo_server import ROOT, DemoServer
from tests.hub_server import HubServer
from tests.tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def client(demo: DemoServer) -> Client:
    return Client(demo.url, verbose=False)


@pytest.fixture(scope="module")
def pipe(demo: DemoServer) -> AgeGenderPipeline:
    folder = demo.environment["MODEL_ID"]
    return AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(folder), image_processor=AutoImageProcessor.from_pretrained(folder)
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "quite-private-name.jpg"
    Image.fromarray(astronaut()).save(path, quality=95)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("detect", "age_ranges"), [(True, "FairFace-9"), (False, "4 bins"), (True, "0-17, 18+")])
def test_endpoint_answers_what_the_pipeline_answers(client, pipe, photo, detect, age_ranges):
    answer = client.predict(handle_file(photo), detect, age_ranges, api_name="/predict")
    assert answer == json.loads(json.dumps(pipe(str(photo), detect=detect, age_ranges=age_ranges)))
    assert len(answer) == 1


@pytest.mark.slow
def test_only_predict_is_public(demo: DemoServer, client: Client, photo: Path):
    info = httpx.get(f"{demo.url}/gradio_api/info").json()
    assert list(info["named_endpoints"]) == ["/predict"]
    assert info["unnamed_endpoints"] == {}
    returned = info["named_endpoints"]["/predict"]["returns"][0]["type"]["items"]["properties"]
    assert list(returned) == list(client.predict(handle_file(photo), api_name="/predict")[0])


@pytest.mark.slow
def test_assistants_call_the_same_function_as_a_tool(demo: DemoServer, pipe, photo: Path):
    async def ask() -> str:
        connection = streamablehttp_client(f"{demo.url}/gradio_api/mcp/")
        async with connection as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            assert [tool.name for tool in (await session.list_tools()).tools] == ["predict"]
            picture = "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()
            result = await session.call_tool("predict", {"picture": picture, "age_ranges": "4 bins"})
            return result.content[0].text

    assert ast.literal_eval(asyncio.run(ask())) == pipe(str(photo), age_ranges="4 bins")


def huge_png(side: int) -> bytes:
    """A valid PNG of `side` x `side` grey pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(bytes(side + 1) * 64)  # the first rows are enough: nobody should get to read them
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(astronaut()).save(buffer, "JPEG")
    return buffer.getvalue()


BAD_FILES = [
    ("truncated.jpg", jpeg()[:9000], "damaged"),
    ("empty.jpg", b"", "empty"),
    ("text.png", b"not a picture", "none of these"),
    ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of these"),
    ("bomb.png", huge_png(20_000), "pixels"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content", "expected"), BAD_FILES, ids=[case[0] for case in BAD_FILES])
def test_bad_file_gets_a_clear_error_from_a_living_server(client, photo, tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AppError, match=expected) as caught:
        client.predict(handle_file(path), api_name="/predict")
    assert "/" not in str(caught.value).replace(name, "")  # no path of the server
    assert len(client.predict(handle_file(photo), api_name="/predict")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("age_ranges", ["0-17, 19+", "0-20, 18+", "young, old", "=1+1"])
def test_bad_ranges_get_a_clear_error(client, photo, age_ranges):
    with pytest.raises(AppError, match=r"[Aa]ge range"):
        client.predict(handle_file(photo), True, age_ranges, api_name="/predict")


FILE_MARK = {"_type": "gradio.FileData"}


def call_predict(browser: httpx.Client, picture: object) -> str:
    """The events that the bare HTTP API answers with."""
    call = browser.post("/gradio_api/call/predict", json={"data": [picture, True, "4 bins"]}, timeout=60)
    return browser.get(f"/gradio_api/call/predict/{call.raise_for_status().json()['event_id']}", timeout=60).text


@pytest.mark.slow
@pytest.mark.parametrize(
    "picture",
    [
        pytest.param({"path": "/etc/passwd"}, id="server file without the mark of an upload"),
        pytest.param({"path": "/etc/passwd", "meta": FILE_MARK}, id="server file"),
        pytest.param({"path": str(ROOT / "app.py"), "meta": FILE_MARK}, id="file of the demo"),
        pytest.param({"url": "http://127.0.0.1:1/x.jpg", "path": "http://127.0.0.1:1/x.jpg"}, id="internal address"),
        pytest.param({"url": "http://169.254.169.254/latest", "meta": FILE_MARK}, id="metadata"),
        pytest.param("just text", id="text"),
        pytest.param(None, id="nothing"),
        pytest.param([1, 2, 3], id="list"),
    ],
)
def test_what_is_not_an_upload_is_refused(demo, client, photo, picture):
    with httpx.Client(base_url=demo.url) as browser:
        answer = call_predict(browser, picture)
    assert "event: error" in answer
    assert "root:" not in answer
    assert "detection_score" not in answer
    assert len(client.predict(handle_file(photo), api_name="/predict")) == 1


@pytest.mark.slow
def test_too_large_an_upload_is_refused_by_the_server(demo: DemoServer):
    before = len(demo.stored_files())
    answer = httpx.post(f"{demo.url}/gradio_api/upload", files={"files": ("a.jpg", bytes(4_000_000))}, timeout=30)
    assert answer.status_code == 413
    assert len(demo.stored_files()) == before


@pytest.mark.slow
def test_answers_of_many_clients_are_not_mixed_up(demo, pipe, tmp_path):
    """Different pictures from several clients at once: everyone gets the answer to their own."""
    paths = []
    for index in range(6):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(astronaut()[: 300 + 30 * index, 10 * index :]).save(paths[-1])
    with ThreadPoolExecutor(6) as threads:
        found = threads.map(
            lambda path: Client(demo.url, verbose=False).predict(handle_file(path), api_name="/predict"), paths
        )
    assert list(found) == [json.loads(json.dumps(pipe(str(path)))) for path in paths]


@pytest.mark.slow
def test_nothing_of_a_visit_remains(photo: Path, tmp_path: Path):
    """Files are gone after the stated time while the server runs; the log never held a name or an answer."""
    save_tiny_model(tmp_path / "tiny")
    bad = tmp_path / "another-private-name.png"
    bad.write_bytes(b"not a picture")
    with DemoServer(tmp_path, MODEL_ID=str(tmp_path / "tiny"), KEEP_SECONDS="8", DEMO_AUTH="ann:secret") as demo:
        client = Client(demo.url, auth=("ann", "secret"), verbose=False)
        answer = client.predict(handle_file(photo), api_name="/predict")
        assert len(answer) == 1
        uploaded = next(path for path in demo.stored_files() if path.name == photo.name)
        with pytest.raises(AppError):
            client.predict(handle_file(bad), api_name="/predict")
        assert demo.stored_files()
        deadline = time.monotonic() + 8 + 4
        while demo.stored_files() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert demo.stored_files() == []
        with httpx.Client(base_url=demo.url) as browser:
            browser.post("/login", data={"username": "ann", "password": "secret"}).raise_for_status()
            assert "Choose it again" in call_predict(browser, {"path": str(uploaded), "meta": FILE_MARK})
        log = demo.log.lower()
    for word in ("private-name", "looks", "female", "age_range", "traceback", "secret"):
        assert word not in log


@pytest.mark.slow
def test_serves_a_revision_from_the_hub(hub: HubServer, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("user/faces")
    api.upload_folder(repo_id="user/faces", folder_path=tmp_path / "tiny")
    api.create_tag("user/faces", tag="v1")
    with DemoServer(tmp_path, **hub.env, MODEL_ID="user/faces", MODEL_REVISION="v1") as demo:
        assert len(Client(demo.url, verbose=False).predict(handle_file(photo), api_name="/predict")) == 1
    commit = hub.repository("user/faces").branches["main"].oid
    assert ("GET", f"/user/faces/resolve/{commit}/model.safetensors") in hub.requests
    assert not [path for method, path in hub.requests if path.endswith(".py") and method == "GET"]


# Runs the demo, then names what would make every start slow.
START = """
import sys, app
code = app.main()
print([name for name in ("datasets", "evaluate", "transformers.trainer") if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, "no model 'user/nothing-here' on the Hub", id="unknown id"),
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be reached", id="no network"),
    ],
)
def test_ends_with_a_message_where_the_hub_has_no_answer(hub: HubServer, environment: dict, expected: str):
    environment = hub.env | {"MODEL_ID": "user/nothing-here"} | environment
    command = [sys.executable, "-c", START]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MODEL_ID", "no/such/folder", "a folder that exists, or a Hub id"),
        ("QUEUE_SIZE", "many", "QUEUE_SIZE must be a whole number of at least 1; it is 'many'"),
        ("CONCURRENCY", "0", "CONCURRENCY must be a whole number of at least 1; it is '0'"),
    ],
)
def test_ends_with_a_message_where_a_variable_is_wrong(monkeypatch, capsys, variable, value, expected):
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.setenv(variable, value)
    assert app.main() == 1
    assert expected in capsys.readouterr().err
