"""`scripts.push_to_hub`, run as a user runs it, against the loopback Hub: one commit, whole or not at all."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from model_card.card import render_card
from scripts import push_to_hub
from scripts.model_folder import ModelFolderError, belongs_to_model, files_to_push
from tests.hub_server import Fault, HubServer


ROOT = Path(__file__).resolve().parents[1]
FIGURE = "figures/risk_coverage.png"


@pytest.fixture
def folder(tiny_runs: tuple[Path, Path], tmp_path: Path) -> Path:
    """A complete model folder, to be pushed or spoilt."""
    return Path(shutil.copytree(tiny_runs[0], tmp_path / "run"))


@pytest.fixture
def next_version(tiny_runs: tuple[Path, Path], folder: Path) -> Callable[[], None]:
    """Turns `folder` into one of other weights, which has a figure less."""

    def become_next_version() -> None:
        shutil.rmtree(folder)
        shutil.copytree(tiny_runs[1], folder)
        (folder / FIGURE).unlink()
        (folder / "README.md").write_text(render_card(folder))

    return become_next_version


def all_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def push_command(folder: Path, *options: str, repo_id: str = "user/faces") -> list[str]:
    return [sys.executable, "-m", "scripts.push_to_hub", str(folder), repo_id, *options]


def push(hub: HubServer, folder: Path, *options: str, repo_id: str = "user/faces", **env: str):
    command = push_command(folder, *options, repo_id=repo_id)
    return subprocess.run(command, env=hub.env | env, cwd=ROOT, capture_output=True, text=True, timeout=90)


def pushed(hub: HubServer, revision: str = "main") -> set[str]:
    return set(hub.repository("user/faces").resolve(revision).files) - {".gitattributes"}


def titles(hub: HubServer, revision: str = "main") -> list[str]:
    return [commit.title for commit in hub.repository("user/faces").resolve(revision).history()][:-1]


@pytest.mark.slow
def test_one_commit_holds_the_model_and_nothing_else(hub: HubServer, folder: Path, next_version):
    secret = hub.token.encode()
    model_files = all_files(folder)
    for name in (
        "training_args.bin",
        ".env",
        "optimizer.pt",
        "checkpoint-10/optimizer.pt",
        "figures/.env",
        "onnx/.env",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"token=" + secret)
    done = push(hub, folder, "--tag", "v1", "--private", "--commit-message", "First model")
    assert done.returncode == 0, done.stderr
    repository = hub.repository("user/faces")
    commit = repository.branches["main"]
    assert pushed(hub) == model_files
    assert titles(hub) == ["First model"]
    assert repository.private
    assert repository.tags["v1"] is commit
    assert all(secret not in content for content in hub.uploaded())
    assert f"{hub.url}/user/faces holds {folder} at commit {commit.oid}" in done.stdout
    assert f'model="user/faces", revision="{commit.oid}", trust_remote_code=True)' in done.stdout
    assert "warn" not in done.stderr.lower()

    again = push(hub, folder, "--tag", "v1")
    assert again.returncode == 0, again.stderr
    assert "No files have been modified" in again.stderr
    assert len(repository.all_commits) == 2
    assert commit.oid in again.stdout

    next_version()
    refused = push(hub, folder, "--tag", "v1", "--public")
    assert refused.returncode == 1
    assert "user/faces exists and is private, not public as asked" in refused.stderr
    updated = push(hub, folder, "--tag", "v2")
    assert updated.returncode == 0, updated.stderr
    assert pushed(hub) == model_files - {FIGURE}
    assert repository.tags["v1"] is commit
    assert repository.tags["v2"] is repository.branches["main"] is not commit
    moved = push(hub, folder, "--tag", "v1")
    assert moved.returncode == 1
    assert "the tag v1 of user/faces names commit" in moved.stderr
    (folder / FIGURE).write_bytes(b"drawn again")
    head = repository.branches["main"]
    late = push(hub, folder, "--tag", "v2")
    assert late.returncode == 1
    assert "choose another; this push is committed, without a tag" in late.stderr
    assert repository.branches["main"] is not head


def test_what_others_put_into_the_repository_is_not_the_models():
    assert all(map(belongs_to_model, ["handler.py", "figures/a.png", "onnx/model.onnx", "config.json"]))
    assert not any(map(belongs_to_model, ["old/handler.py", "docs/figures/a.png", "a/onnx/model.onnx", "notes.txt"]))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/lfs/", "/commit/"])
def test_killed_in_the_middle_shows_nothing_and_a_second_run_finishes(
    hub: HubServer, folder: Path, next_version, path: str
):
    push(hub, folder)
    before = pushed(hub), titles(hub)
    next_version()
    hold = hub.inject(Fault("hold", "PUT" if path == "/lfs/" else "POST", path))
    with subprocess.Popen(push_command(folder), env=hub.env, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert hold.reached.wait(60)
        process.kill()
    hold.released.set()
    assert (pushed(hub), titles(hub)) == before
    assert push(hub, folder).returncode == 0
    assert len(titles(hub)) == 2
    assert hub.repository("user/faces").file("main", "model.safetensors")[1].content == weights_of(folder)


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", "POST", "/api/repos/create"), Fault("status", "POST", "/api/validate-yaml")],
        [Fault("status", "POST", "/preupload/"), Fault("drop", "PUT", "/lfs/")],
        [Fault("status", "POST", "/commit/", status=500), Fault("drop", "POST", "/commit/")],
        [Fault("drop_answer", "POST", "/commit/"), Fault("status", "POST", "/tag/", status=502)],
    ],
    ids=lambda faults: ", ".join(f"{fault.kind} {fault.path}" for fault in faults),
)
def test_5xx_and_dropped_connections_are_tried_again(hub: HubServer, folder: Path, faults: list[Fault]):
    for fault in faults:
        hub.inject(Fault(fault.kind, fault.method, fault.path, status=fault.status))
    done = push(hub, folder, "--tag", "v1")
    assert done.returncode == 0, done.stderr
    assert all(fault.times == 0 for fault in hub.faults)
    assert pushed(hub) == pushed(hub, "v1") == all_files(folder)
    assert titles(hub) == ["Upload run"]


@pytest.mark.slow
def test_pull_request(hub: HubServer, folder: Path, next_version):
    missing = push(hub, folder, "--create-pr")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: user/faces does not exist or is hidden from you: a pull request needs")
    push(hub, folder)
    next_version()
    hub.inject(Fault("drop_answer", "POST", "/commit/"))  # the second try must find what the first one opened
    done = push(hub, folder, "--create-pr", HF_TOKEN=hub.stranger_token)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/user/faces/discussions/1 holds" in done.stdout
    repository = hub.repository("user/faces")
    assert set(repository.pull_requests) == {"refs/pr/1"}
    assert titles(hub) == ["Upload run"]
    assert repository.file("refs/pr/1", "model.safetensors")[1].content == weights_of(folder)
    with_tag = push(hub, folder, "--create-pr", "--tag", "v2")
    assert "tag the version after merging it" in with_tag.stderr


@pytest.mark.slow
def test_branch(hub: HubServer, folder: Path, next_version):
    push(hub, folder)
    next_version()
    done = push(hub, folder, "--revision", "next")
    assert done.returncode == 0, done.stderr
    assert (len(titles(hub)), len(titles(hub, "next"))) == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("repo_id", "env", "message"),
    [
        ("somebody/faces", {}, "this token may not write there"),
        ("user/faces", {"HF_TOKEN": HubServer.read_token}, "this token may not write there"),
        ("user/faces", {"HF_TOKEN": "hf_" + "0" * 34}, "the Hub does not accept this token"),
        ("user/faces", {"HF_TOKEN": ""}, "not signed in to the Hub: run `hf auth login`"),
        ("user/new faces", {}, "'user/new faces' is not the name of a repository"),
        ("faces", {}, "'faces' is not the name of a repository"),
    ],
    ids=["foreign namespace", "read token", "wrong token", "no token", "bad name", "no namespace"],
)
def test_who_may_not_push_is_told_why(hub: HubServer, folder: Path, repo_id: str, env: dict[str, str], message: str):
    done = push(hub, folder, repo_id=repo_id, **env)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(push_to_hub, "WAITS_SECONDS", (0,))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", HubServer.token)
    with pytest.raises(push_to_hub.PushError, match=r"the connection to http://127.0.0.1:9 failed .* run the same"):
        push_to_hub.push_folder(folder, "user/faces")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change(path: Path, **values) -> None:
    """Other values in a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def replace(path: Path, pattern: str, replacement: str) -> None:
    """Other text in a file, which must hold the pattern."""
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count, pattern
    path.write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: truncate(f / "model.safetensors"), "model.safetensors is not a whole safetensors file"),
        (lambda f: save_file({"head": np.zeros(3)}, f / "model.safetensors"), "metrics.json holds figures of other"),
        (lambda f: change(f / "metrics.json", weights_sha256=None), "metrics.json holds figures of unnamed weights"),
        (lambda f: change(f / "metrics.json", groups=None), "metrics.json does not say 'groups'"),
        (lambda f: change(f / "metrics.json", worst_group=None), "metrics.json does not say 'worst_group'"),
        (lambda f: change(f / "metrics.json", gender=None), "metrics.json does not say 'gender'"),
        (lambda f: change(f / "metrics.json", split="validation"), "metrics.json is of the validation split"),
        (lambda f: change(f / "training_run.json", hardware=None), "training_run.json does not say 'hardware'"),
        (lambda f: (f / "metrics.json").write_text("{"), "metrics.json is not JSON"),
        (lambda f: (f / "metrics.json").unlink(), "metrics.json is missing"),
        (lambda f: (f / "config.json").write_text("{}"), "config.json names no class for age-gender-classification"),
        (
            lambda f: (f / "config.json").write_text(
                (f / "config.json").read_text().replace("modeling_", "u/r--modeling_")
            ),
            "config.json takes AutoModel from another repository, u/r--modeling_age_gender.AgeGenderModel",
        ),
        (lambda f: (f / "face_detection.py").unlink(), "face_detection.py is missing"),  # imported by the pipeline
        (lambda f: (f / "pipeline_age_gender.py").unlink(), "pipeline_age_gender.py is missing"),
        (lambda f: (f / "face_detection_yunet.onnx").unlink(), "face_detection_yunet.onnx is missing"),
        (lambda f: (f / "README.md").unlink(), "README.md is missing"),
        (lambda f: (f / "README.md").write_text("# Faces\n"), "README.md has no metadata"),
        (lambda f: (f / "README.md").write_text("---\na: [\n---\n"), "README.md's metadata is not YAML"),
        (lambda f: replace(f / "README.md", "license: other\n", ""), "README.md's metadata does not say 'license'"),
        (lambda f: replace(f / "README.md", "license: other", "license: mit"), "gives the licence 'mit', not 'other'"),
        (lambda f: replace(f / "README.md", "pipeline_tag: .*\n", ""), "metadata does not say 'pipeline_tag'"),
        (lambda f: replace(f / "README.md", r"\d+\.\d\d \[", "4.72 ["), "README.md states 4.72 ["),
        (lambda f: replace(f / "README.md", "## Limits", "Right in 99.87 %.\n\n## Limits"), "README.md states 99.87,"),
        (lambda f: (f / FIGURE).unlink(), f"README.md shows {FIGURE}, which is missing"),
        (lambda f: (f / "figures/learning_curves.png").unlink(), "figures/learning_curves.png is missing"),
        (
            lambda f: (f / "training_run.json").write_text(f'{{"token": "{HubServer.token}"}}'),
            "training_run.json holds an access token",
        ),
        (lambda f: shutil.rmtree(f), "is not a folder"),
    ],
)
def test_an_incomplete_folder_is_refused(folder: Path, spoil, message: str):
    spoil(folder)
    with pytest.raises(ModelFolderError, match=re.escape(message)):
        files_to_push(folder)


def test_the_refusal_names_everything_that_is_missing(tmp_path: Path):
    with pytest.raises(ModelFolderError) as refusal:
        files_to_push(tmp_path)
    missing = [line.removeprefix("  - ") for line in str(refusal.value).splitlines()[1:]]
    assert missing == [
        f"{name} is missing"
        for name in (
            "config.json",
            "preprocessor_config.json",
            "model.safetensors",
            "face_detection_yunet.onnx",
            "README.md",
            "metrics.json",
            "training_run.json",
        )
    ]
