"""`scripts.deploy_space` against the loopback Hub: one commit, the files the demo needs, and a demo that runs on them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from gradio_client import Client, handle_file
from huggingface_hub import CommitOperationAdd, HfApi, constants
from packaging.requirements import Requirement
from transformers import AutoImageProcessor

import scripts.deploy_space
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.hub_checks import HubError
from model_card.space import deploy_space, deploy_static_space, space_files
from tests.support.clean_environment import make_clean_environment
from tests.support.demo_server import ROOT, DemoServer
from tests.support.hub_server import Fault, HubServer
from tests.support.tiny_model import save_tiny_model
from tests.support.warm_python import warm_python


PHOTO = ROOT / "examples" / "astronaut.jpg"


@pytest.fixture
def api(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """Of the test, and of `deploy_space` called in this process."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return HfApi()


def variables_of(api: HfApi, space_id: str) -> dict[str, str]:
    return {name: variable.value for name, variable in api.get_space_variables(space_id).items()}


@pytest.mark.slow
def test_the_space_runs_from_its_files_alone(hub: HubServer, api: HfApi, tmp_path: Path):
    save_tiny_model(tmp_path / "tiny")
    api.create_repo("user/faces")
    first = api.upload_folder(repo_id="user/faces", folder_path=tmp_path / "tiny").oid
    api.create_tag("user/faces", tag="v1")
    # a later version, which the Space must not pick up
    api.create_commit("user/faces", [CommitOperationAdd("config.json", b"{}")], commit_message="Later")
    options = ("--model", "user/faces", "--revision", "v1", "--private", "--hardware", "cpu-upgrade")
    command = [warm_python(), "-m", "scripts.deploy_space", "user/space", *options]
    done = subprocess.run(command, env=hub.env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "user/space runs user/faces" in done.stdout

    space = hub.repository("user/space", "spaces")
    commit = space.branches["main"]
    assert [entry.title for entry in commit.history()] == [f"Run user/faces at {first[:8]}", "initial commit"]
    assert space.private
    front_matter = yaml.safe_load(commit.files["README.md"].content.decode().split("---")[1])
    assert front_matter["models"] == ["user/faces"]
    assert front_matter["suggested_hardware"] == "cpu-upgrade"
    variables = variables_of(api, "user/space")
    assert variables == {"MODEL_ID": "user/faces", "MODEL_REVISION": first}

    code = tmp_path / "space"
    for path, file in commit.files.items():
        (code / path).parent.mkdir(parents=True, exist_ok=True)
        (code / path).write_bytes(file.content)
    python = make_clean_environment(tmp_path / "environment", code / "requirements.txt")
    found = (
        "import importlib.util as u; print([name for name in ('gradio', 'datasets', 'pytest') if u.find_spec(name)])"
    )
    present = subprocess.run([python, "-c", found], cwd=code, capture_output=True, text=True, check=True).stdout
    assert present == "['gradio']\n"  # neither what trains and tests, nor this repository's own modules
    with DemoServer(tmp_path, code, python, **hub.env, **variables) as demo:
        answer = Client(demo.url, verbose=False).predict(handle_file(PHOTO), api_name="/predict")
    model, processor = (kind.from_pretrained(tmp_path / "tiny") for kind in (AgeGenderModel, AutoImageProcessor))
    expected = AgeGenderPipeline(model=model, image_processor=processor)(str(PHOTO))
    assert answer == json.loads(json.dumps(expected))
    assert "Traceback" not in demo.log


def add_model(api: HfApi, repo_id: str, without: str = "", private: bool = False) -> str:
    """A repository with the files that deploying looks for; returns its commit."""
    names = {"config.json", "preprocessor_config.json", "model.safetensors", "face_detection_yunet.onnx"} - {without}
    api.create_repo(repo_id, private=private)
    return api.create_commit(repo_id, [CommitOperationAdd(name, b"{}") for name in names], commit_message="Add").oid


def test_deploying_again_updates_the_space(hub: HubServer, api: HfApi):
    add_model(api, "user/old")
    new = add_model(api, "user/new")
    deploy_space("user/space", "user/old")
    by_hand = [CommitOperationAdd("demo/gone.py", b""), CommitOperationAdd("packages.txt", b"tmux\n")]
    api.create_commit("user/space", by_hand, repo_type="space", commit_message="By hand")

    deploy_space("user/space", "user/new", hardware="t4-small")
    assert variables_of(api, "user/space") == {"MODEL_ID": "user/new", "MODEL_REVISION": new}
    assert api.get_space_runtime("user/space").requested_hardware == "t4-small"
    files = api.list_repo_files("user/space", repo_type="space")
    assert "demo/gone.py" not in files
    assert "packages.txt" in files

    before = api.space_info("user/space").sha
    requests = len(hub.requests)
    deploy_space("user/space", "user/new", hardware="t4-small")
    assert api.space_info("user/space").sha == before
    assert ("POST", "/api/spaces/user/space/variables") not in hub.requests[requests:]


def test_a_failed_commit_leaves_the_old_model_and_hardware(hub: HubServer, api: HfApi):
    old, new = add_model(api, "user/old"), add_model(api, "user/new")
    for space_id in ("user/space", "user/first"):  # the second does not exist yet
        if space_id == "user/space":
            deploy_space(space_id, "user/old")
        hub.inject(Fault("status", "POST", f"/spaces/{space_id}/commit/", status=500))
        with pytest.raises(HubError, match=f"could not deploy {space_id}: the Hub answered 500"):
            deploy_space(space_id, "user/new", hardware="t4-small")
    assert variables_of(api, "user/space") == {"MODEL_ID": "user/old", "MODEL_REVISION": old}
    assert variables_of(api, "user/first") == {}
    assert api.get_space_runtime("user/space").requested_hardware == "cpu-basic"
    for space_id in ("user/space", "user/first"):
        deploy_space(space_id, "user/new", hardware="t4-small")
        assert variables_of(api, space_id) == {"MODEL_ID": "user/new", "MODEL_REVISION": new}
        assert api.get_space_runtime(space_id).requested_hardware == "t4-small"


@pytest.mark.parametrize(
    ("space_id", "arguments", "message"),
    [
        ("space", {"model_id": "user/faces"}, "'space' is not the name of a Space, user/name"),
        ("user/space", {"model_id": "user/nothing"}, "there is no model user/nothing on the Hub"),
        ("user/space", {"model_id": "user/faces", "revision": "v9"}, "user/faces has no revision 'v9'"),
        ("user/space", {"model_id": "user/half"}, "it lacks face_detection_yunet.onnx"),
        ("user/public", {"model_id": "user/faces", "private": True}, "is public, not private as asked"),
    ],
)
def test_a_refusal_changes_nothing(api: HfApi, space_id: str, arguments: dict, message: str):
    add_model(api, "user/faces")
    add_model(api, "user/half", without="face_detection_yunet.onnx")
    api.create_repo("user/public", repo_type="space", space_sdk="gradio")
    before = api.space_info("user/public").sha
    with pytest.raises(HubError, match=message):
        deploy_space(space_id, **arguments)
    assert not api.repo_exists("user/space", repo_type="space")
    assert api.space_info("user/public").sha == before
    assert variables_of(api, "user/public") == {}


def test_a_static_space_serves_the_site(
    hub: HubServer, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    api.create_repo("user/static", repo_type="space", space_sdk="static")
    old = [CommitOperationAdd("files/old.onnx", b"old"), CommitOperationAdd(".gitattributes", b"*.onnx\n")]
    api.create_commit("user/static", old, repo_type="space", commit_message="Earlier")
    command = ["deploy_space", "user/static", "--model", str(ROOT / "model"), "--static"]
    monkeypatch.setattr("sys.argv", command)
    scripts.deploy_space.main()
    assert "serves" in capsys.readouterr().out
    files = hub.repository("user/static", "spaces").branches["main"].files
    front_matter = yaml.safe_load(files["README.md"].content.decode().split("---")[1])
    assert (front_matter["sdk"], front_matter["app_file"]) == ("static", "index.html")
    assert "sdk_version" not in front_matter
    manifest = json.loads(files["manifest.json"].content)
    assert {file["url"] for file in manifest["files"].values()} <= files.keys()
    assert files.keys() >= {"index.html", "device/live.js", "device/runtime/LICENSE", ".gitattributes"}
    assert "files/old.onnx" not in files

    monkeypatch.setattr("sys.argv", [*command, "--hardware", "t4-small"])
    with pytest.raises(SystemExit):
        scripts.deploy_space.main()
    app = [CommitOperationAdd("app.py", b"")]
    api.create_commit("user/static", app, repo_type="space", commit_message="A demo")
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(HubError, match="holds a demo with a server"):
        scripts.deploy_space.main()


def test_a_static_space_of_a_folder_names_it_without_its_path(
    hub: HubServer, api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "private" / "faces"
    shutil.copytree(ROOT / "model", folder, ignore=shutil.ignore_patterns("README.md", "figures"))
    monkeypatch.setattr("sys.argv", ["deploy_space", "user/static", "--model", str(folder), "--static"])
    scripts.deploy_space.main()
    commit = hub.repository("user/static", "spaces").branches["main"]
    assert re.fullmatch(r"Run faces, a local folder, .* begins \w{12} in the visitor's browser", commit.title)
    assert json.loads(commit.files["manifest.json"].content)["name"] == "faces"
    assert commit.files["model/README.md"].content == b"# faces\n"
    assert [path for path, file in commit.files.items() if str(tmp_path).encode() in file.content] == []


@pytest.mark.parametrize("is_static", [True, False])
@pytest.mark.parametrize("sdk", ["docker", "streamlit", "gradio", "static"])
def test_a_space_of_another_sdk_keeps_its_files(api: HfApi, tmp_path: Path, sdk: str, is_static: bool):
    api.create_repo("user/theirs", repo_type="space", space_sdk=sdk)
    theirs = [CommitOperationAdd(path, b"theirs") for path in ("Dockerfile", "model/weights.bin")]
    before = api.create_commit("user/theirs", theirs, repo_type="space", commit_message="Theirs").oid
    add_model(api, "user/faces")

    def deploy() -> None:
        if is_static:
            (tmp_path / "index.html").write_text("<title>Faces</title>")
            deploy_static_space("user/theirs", tmp_path, "user/faces")
        else:
            deploy_space("user/theirs", "user/faces")

    if sdk == ("static" if is_static else "gradio"):
        deploy()
        assert api.space_info("user/theirs").sha != before
    else:
        with pytest.raises(HubError, match=f"user/theirs is a {sdk} Space, not a"):
            deploy()
        assert api.space_info("user/theirs").sha == before


def test_without_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(HubError, match="run `hf auth login`, or set HF_TOKEN"):
        deploy_space("user/space", "user/faces")


def test_a_private_model_needs_a_secret(api: HfApi, capsys: pytest.CaptureFixture[str]):
    add_model(api, "user/secret", private=True)
    deploy_space("user/space", "user/secret")
    assert "The Space needs a secret HF_TOKEN" in capsys.readouterr().err


def test_files_are_those_the_demo_needs():
    files = space_files("user/faces", "0" * 40)
    assert files.keys() >= {"app.py", "demo/__init__.py", "demo/serving.py", "examples/astronaut.jpg"}
    assert files.keys() >= {"demo/web/device/live.js", "demo/web/device/runtime/ort-wasm-simd-threaded.wasm.gz"}
    assert files.keys() >= {"model/face_detection_yunet.onnx", "demo/web/device/runtime/LICENSE"}
    assert files.keys() >= {"demo/web/style/base.css", "demo/web/page.js", "demo/gradio_changes.py"}
    assert files.keys() >= {"demo/web/texts.json", "demo/web/preview.jpg", "examples/small/astronaut.jpg"}
    assert files.keys() >= {"model/pipeline_age_gender.py", "model/image_loading.py"}
    assert not [path for path in files if path.startswith(("trainer/", "scripts/", "tests/"))]
    assert "model/handler.py" not in files
    pinned = [Requirement(line) for line in files["requirements.txt"].decode().splitlines()]
    assert {"torch", "transformers", "gradio", "opencv-python-headless", "onnxruntime"} <= {
        requirement.name for requirement in pinned
    }
    assert not {"datasets", "scikit-learn", "pytest"} & {requirement.name for requirement in pinned}
    assert all(str(requirement.specifier).startswith("==") for requirement in pinned)
    front_matter = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert front_matter["app_file"] in files
    assert f"gradio[mcp]=={front_matter['sdk_version']}" in {str(requirement) for requirement in pinned}
