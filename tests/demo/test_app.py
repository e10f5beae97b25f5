"""The demo beyond its page: the HTTP API, live frames, and how the process starts or fails to start."""

import base64
import json
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi, constants
from jsonschema import validate
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor

import app
from demo.api import FACES_SCHEMA
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.demo_server import ROOT, DemoServer
from tests.support.hub_server import HubServer
from tests.support.odd_pictures import encoded
from tests.support.page_calls import page_asks, page_joins
from tests.support.tiny_model import save_tiny_model


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
def test_one_request_with_a_form_answers_the_same(demo: DemoServer, pipe: AgeGenderPipeline, photo: Path):
    """As `curl -F picture=@photo.jpg -F age_ranges="4 bins" .../predict` sends it."""
    form = {"files": {"picture": photo.read_bytes()}, "data": {"age_ranges": "4 bins", "detect": "true"}}
    answer = httpx.post(f"{demo.url}/predict", **form, timeout=60).raise_for_status().json()
    assert answer == json.loads(json.dumps(pipe(str(photo), age_ranges="4 bins")))


@pytest.mark.slow
def test_only_predict_is_public(demo: DemoServer, client: Client, photo: Path):
    info = httpx.get(f"{demo.url}/gradio_api/info").json()
    assert list(info["named_endpoints"]) == ["/predict"]
    assert info["unnamed_endpoints"] == {}
    returned = info["named_endpoints"]["/predict"]["returns"][0]["type"]["items"]["properties"]
    assert list(returned) == list(client.predict(handle_file(photo), api_name="/predict")[0])
    parameters = [parameter["parameter_name"] for parameter in info["named_endpoints"]["/predict"]["parameters"]]
    assert parameters == ["picture", "detect", "age_ranges"]  # no choice of models where there is only one


@pytest.mark.slow
@pytest.mark.parametrize("language", ["python", "bash"])
def test_the_snippets_of_the_api_page_answer_as_they_are_shown(demo: DemoServer, tmp_path: Path, language: str):
    snippets = httpx.get(f"{demo.url}/gradio_api/info").json()["named_endpoints"]["/predict"]["code_snippets"]
    assert all(f"{demo.url}/examples/astronaut.jpg" in snippet for snippet in snippets.values())
    (tmp_path / "snippet.py").write_text(snippets["python"])
    command = [sys.executable, "snippet.py"] if language == "python" else ["sh", "-c", snippets["bash"]]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "'age_interval': [" in run.stdout.replace('"', "'"), run.stdout + run.stderr


@pytest.mark.slow
def test_answers_are_of_the_documented_type(client: Client, photo: Path, tmp_path: Path):
    speck = tmp_path / "speck.png"
    Image.new("RGB", (9, 9)).save(speck)
    [sure] = client.predict(handle_file(photo), api_name="/predict")
    [abstained] = client.predict(handle_file(speck), False, api_name="/predict")
    assert (sure["abstained"], abstained["age"]) == (None, None)
    validate([sure, abstained], FACES_SCHEMA)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["HEIF", "JPEG turned by its EXIF"])
def test_telephones_pictures_are_read_upright(client: Client, photo: Path, tmp_path: Path, kind: str):
    path = tmp_path / ("a.heic" if kind == "HEIF" else "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = encoded("JPEG", np.rot90(astronaut()), exif=exif, quality=95)
    path.write_bytes(encoded("HEIF", quality=95) if kind == "HEIF" else turned)
    [face] = client.predict(handle_file(path), api_name="/predict")
    [upright] = client.predict(handle_file(photo), api_name="/predict")
    assert face["box"] == pytest.approx(upright["box"], abs=5)


@pytest.mark.slow
def test_frames_that_come_while_one_is_analysed_are_dropped(demo: DemoServer):
    """All but the newest, so that a webcam never lags behind."""

    def frame(width: int, height: int) -> dict:
        data = base64.b64encode(encoded("JPEG", np.full((height, width), 128, np.uint8))).decode()
        return {"url": f"data:image/jpeg;base64,{data}"}

    with httpx.Client(base_url=demo.url, timeout=60) as http:
        event, body = page_joins(http, "webcam", frame(7000, 7000))  # takes long to decode
        frames = [body | {"data": [frame(100 + number, 100), *body["data"][1:]]} for number in range(10)]
        answered = []
        with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]}) as messages:
            for message in messages.iter_lines():
                if '"process_starts"' in message:
                    for late in frames:
                        http.post(f"/gradio_api/stream/{event}", json=late).raise_for_status()
                answered += re.findall(r'"size_wh": ?\[(\d+)', message)
                if "109" in answered:
                    break
        http.post(f"/gradio_api/stream/{event}/close")
    assert len(answered) <= 4, answered


@pytest.mark.slow
@pytest.mark.parametrize("age_ranges", ["0-17, 19+", "0-20, 18+", "young, old", "=1+1"])
def test_bad_ranges_get_a_clear_error(client, photo, age_ranges):
    with pytest.raises(AppError, match=r"[Aa]ge range"):
        client.predict(handle_file(photo), True, age_ranges, api_name="/predict")


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
def test_serves_a_revision_from_the_hub(hub: HubServer, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("user/faces")
    api.upload_folder(repo_id="user/faces", folder_path=tmp_path / "tiny")
    api.create_tag("user/faces", tag="v1")
    with DemoServer(tmp_path, **hub.env, MODEL_IDS="user/faces@v1, Newest=user/faces") as demo:
        client = Client(demo.url, verbose=False)
        for model in ("user/faces@v1", "Newest"):
            assert len(client.predict(handle_file(photo), model=model, api_name="/predict")) == 1
        with httpx.Client(base_url=demo.url, timeout=60) as http:
            about = page_asks(http, "options", "user/faces@v1")
    commit = hub.repository("user/faces").branches["main"].oid
    assert f"revision {commit}" in about
    assert f"https://huggingface.co/user/faces/tree/{commit}" in about
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
        pytest.param({"HF_ENDPOINT": "http://127.0.0.1:9"}, "could not be fetched from the Hub", id="no network"),
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
        ("MODEL_IDS", "model, no/such/folder", "'no/such/folder': expected a folder that exists, or a Hub id"),
        ("MODEL_IDS", "model, docs", "docs holds no trained model"),
        ("MODEL_IDS", "One=model, One=model", "no two of one name"),
        ("MODEL_IDS", "One=", "MODEL_IDS must list models"),
        ("GRADIO_SERVER_PORT", "http", "GRADIO_SERVER_PORT must be a number from 1 to 65535; it is 'http'"),
        ("GRADIO_SERVER_PORT", "70000", "GRADIO_SERVER_PORT must be a number from 1 to 65535; it is '70000'"),
    ],
)
def test_ends_with_a_message_where_a_variable_is_wrong(monkeypatch, capsys, variable, value, expected):
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.setenv(variable, value)
    assert app.main() == 1
    assert expected in capsys.readouterr().err


def test_a_port_that_is_taken_is_no_reason_to_take_another(monkeypatch, capsys):
    """A proxy that was told the port would never find the demo."""
    monkeypatch.setattr(sys, "argv", ["app.py"])
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(other.getsockname()[1]))
        assert app.main() == 1
    told = capsys.readouterr().err
    assert re.search(
        r"^GRADIO_SERVER_PORT is \d+, which cannot be used on 127\.0\.0\.1: Address already in use\.", told
    )


def test_a_login_and_the_tool_for_assistants_exclude_each_other(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.setenv("DEMO_AUTH", "ann:secret")
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")
    assert app.main() == 1
    told = capsys.readouterr().err
    assert "DEMO_AUTH and GRADIO_MCP_SERVER cannot be set together" in told
    assert "secret" not in told
