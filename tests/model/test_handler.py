"""The pushed handler.py, loaded and called as Inference Endpoints do: by its path, in a process of its own."""

import base64
import io
import json
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from PIL import Image
from skimage.data import astronaut
from transformers import AutoImageProcessor

from model.handler import EndpointHandler
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.clean_environment import make_clean_environment
from tests.support.hub_server import HubServer
from tests.support.tiny_model import save_tiny_model


# What huggingface/huggingface-inference-toolkit does with a repository and with requests, in its own order.
ENDPOINT = """
import importlib.util, io, json, pathlib, sys
from PIL import Image

folder, requests = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())
spec = importlib.util.spec_from_file_location("handler", folder + "/handler.py")
sys.path.insert(0, folder)
sys.modules["handler"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
handler = module.EndpointHandler(folder)
answers = []
for request in requests:
    if "body" in request:  # its type is image/jpeg
        request["inputs"] = Image.open(io.BytesIO(bytes.fromhex(request.pop("body")))).convert("RGB")
    answers.append(handler(request))
print(json.dumps(answers))
"""
NOT_DOWNLOADED = [
    "*onnx*",
    "pytorch*",
    "tf*",
    "flax*",
    "rust*",
    "*mlmodel",
    "*tflite",
    "*tar.gz",
    "*openvino*",
    "*ckpt",
]


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    """A picture lying on its side, as its EXIF orientation says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(astronaut()).rotate(90, expand=True).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


@pytest.mark.slow
def test_answers_as_the_pipeline_does(hub: HubServer, jpeg: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    save_tiny_model(tmp_path / "tiny")
    api = HfApi(hub.url, hub.token)
    api.create_repo("user/faces")
    commit = api.upload_folder(repo_id="user/faces", folder_path=tmp_path / "tiny").oid
    repository = tmp_path / "repository"
    api.snapshot_download("user/faces", local_dir=repository, ignore_patterns=NOT_DOWNLOADED)

    text, one_range = base64.b64encode(jpeg).decode(), {"age_ranges": "0-17, 18+", "return_years": True}
    requests = [
        {"body": jpeg.hex()},
        {"body": jpeg.hex(), "parameters": {"detect": False, "min_score": "0.7"}},  # ?detect=false&min_score=0.7
        {"inputs": text},
        {"inputs": f"data:image/jpeg;base64,{text}", "parameters": one_range},
        {"inputs": [text, text], "parameters": {"boxes": [[[150, 20, 300, 200]], []], "batch_size": 2}},
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    (tmp_path / "endpoint.py").write_text(ENDPOINT)
    # the endpoint has torch and installs what the repository asks for
    (tmp_path / "installed.txt").write_text("torch\n" + (repository / "requirements.txt").read_text())
    python = make_clean_environment(tmp_path / "environment", tmp_path / "installed.txt")
    done = subprocess.run(
        [python, "-W", "error", "endpoint.py", str(repository), "requests.json"],
        env=hub.env | {"HF_MODEL_ID": "user/faces", "HF_REVISION": commit},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr

    model, processor = (kind.from_pretrained(tmp_path / "tiny") for kind in (AgeGenderModel, AutoImageProcessor))
    pipe = AgeGenderPipeline(model=model, image_processor=processor)
    expected = [
        pipe(jpeg),
        pipe(jpeg, detect=False),
        pipe(jpeg),
        pipe(jpeg, **one_range),
        pipe([jpeg, jpeg], boxes=[[[150, 20, 300, 200]], []], batch_size=2),
    ]
    assert json.loads(done.stdout) == expected
    assert expected[0][0]["detection_score"] > 0.6


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> EndpointHandler:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder)
    return EndpointHandler(str(folder))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "Expected a picture as base64 text under 'inputs'; got NoneType"),
        ({"inputs": {"image": "x"}}, "got dict"),
        ({"inputs": "https://example.org/face.jpg"}, "Addresses and paths are not fetched"),
        ({"inputs": "/etc/passwd"}, "Addresses and paths are not fetched"),
        ({"inputs": "/usr/bin/env"}, "Expected a picture .* none of these"),  # a path that is base64, too
        ({"inputs": [f"file://{__file__}"]}, "Addresses and paths are not fetched"),
        ({"inputs": ""}, "is empty"),
        ({"inputs": base64.b64encode(b"no picture").decode()}, "Expected a picture .* none of these"),
        ({"inputs": "", "parameters": {"top_k": 3}}, "Unknown parameters: top_k. There are age_ranges, batch_size"),
    ],
)
def test_bad_requests_get_a_clear_error(handler: EndpointHandler, data: dict, message: str):
    with pytest.raises(ValueError, match=message) as refusal:
        handler(data)
    assert len(str(refusal.value)) < 300
