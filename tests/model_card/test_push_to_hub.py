"""`scripts.push_to_hub`, run as a user runs it, against the loopback Hub: one commit, whole or not at all."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from model_card.card import render_card
from model_card.hub_checks import HubError, hub_errors
from model_card.push import push_folder
from tests.support.hub_server import Fault, HubServer
from tests.support.warm_python import warm_python


ROOT = Path(__file__).resolve().parents[2]
FIGURE = "figures/risk_coverage.png"


@pytest.fixture
def next_version(tiny_runs: tuple[Path, Path], model_folder: Path) -> Callable[[], None]:
    """Turns `model_folder` into one of other weights, which has a figure less."""

    def become_next_version() -> None:
        shutil.rmtree(model_folder)
        shutil.copytree(tiny_runs[1], model_folder)
        (model_folder / FIGURE).unlink()
        (model_folder / "README.md").write_text(render_card(model_folder))

    return become_next_version


def all_files(model_folder: Path) -> set[str]:
    return {path.relative_to(model_folder).as_posix() for path in model_folder.rglob("*") if path.is_file()}


def push_command(model_folder: Path, *options: str, repo_id: str = "user/faces") -> list[str]:
    return [warm_python(), "-m", "scripts.push_to_hub", str(model_folder), repo_id, *options]


def push(hub: HubServer, model_folder: Path, *options: str, repo_id: str = "user/faces", **env: str):
    command = push_command(model_folder, *options, repo_id=repo_id)
    return subprocess.run(command, env=hub.env | env, cwd=ROOT, capture_output=True, text=True, timeout=90)


def pushed(hub: HubServer, revision: str = "main") -> set[str]:
    return set(hub.repository("user/faces").resolve(revision).files) - {".gitattributes"}


def titles(hub: HubServer, revision: str = "main") -> list[str]:
    return [commit.title for commit in hub.repository("user/faces").resolve(revision).history()][:-1]


@pytest.mark.slow
def test_one_commit_holds_the_model_and_nothing_else(hub: HubServer, model_folder: Path, next_version):
    secret = hub.token.encode()
    model_files = all_files(model_folder)
    for name in (
        "training_args.bin",
        ".env",
        "optimizer.pt",
        "checkpoint-10/optimizer.pt",
        "figures/.env",
        "onnx/.env",
    ):
        (model_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (model_folder / name).write_bytes(b"token=" + secret)
    done = push(hub, model_folder, "--tag", "v1", "--private", "--commit-message", "First model")
    assert done.returncode == 0, done.stderr
    repository = hub.repository("user/faces")
    commit = repository.branches["main"]
    assert pushed(hub) == model_files
    assert titles(hub) == ["First model"]
    assert repository.private
    assert repository.tags["v1"] is commit
    assert all(secret not in content for content in hub.uploaded())
    assert f"{hub.url}/user/faces holds {model_folder} at commit {commit.oid}" in done.stdout
    assert f'model="user/faces", revision="{commit.oid}", trust_remote_code=True)' in done.stdout
    assert "warn" not in done.stderr.lower()

    again = push(hub, model_folder, "--tag", "v1")
    assert again.returncode == 0, again.stderr
    assert "No files have been modified" in again.stderr
    assert len(repository.all_commits) == 2
    assert commit.oid in again.stdout

    next_version()
    refused = push(hub, model_folder, "--tag", "v1", "--public")
    assert refused.returncode == 1
    assert "user/faces exists and is private, not public as asked" in refused.stderr
    updated = push(hub, model_folder, "--tag", "v2")
    assert updated.returncode == 0, updated.stderr
    assert pushed(hub) == model_files - {FIGURE}
    assert repository.tags["v1"] is commit
    assert repository.tags["v2"] is repository.branches["main"] is not commit
    moved = push(hub, model_folder, "--tag", "v1")
    assert moved.returncode == 1
    assert "the tag v1 of user/faces names commit" in moved.stderr
    (model_folder / FIGURE).write_bytes(b"drawn again")
    head = repository.branches["main"]
    late = push(hub, model_folder, "--tag", "v2")
    assert late.returncode == 1
    assert "choose another; this push is committed, without a tag" in late.stderr
    assert repository.branches["main"] is not head


@pytest.mark.slow
def test_the_pushed_card_loads_the_model_from_where_it_was_pushed(hub: HubServer, model_folder: Path):
    own_card = (model_folder / "README.md").read_text()
    assert "user/faces" not in own_card
    done = push(hub, model_folder, "--tag", "v1")
    assert "the pushed README.md was rendered for user/faces and differs from" in done.stderr
    repository = hub.repository("user/faces")
    assert repository.file("main", "README.md")[1].content.decode() == render_card(model_folder, "user/faces", "v1")
    assert (model_folder / "README.md").read_text() == own_card


@pytest.mark.slow
@pytest.mark.parametrize("typed", ["The model is 99.9 % accurate.", "---\nlicense: mit\n---\n"])
def test_a_typed_card_is_not_pushed(hub: HubServer, model_folder: Path, typed: str):
    rendered = render_card(model_folder, "user/faces")
    (model_folder / "README.md").write_text(typed)
    done = push(hub, model_folder)
    assert "the pushed README.md was rendered for user/faces and differs from" in done.stderr
    repository = hub.repository("user/faces")
    assert repository.file("main", "README.md")[1].content.decode() == rendered
    (model_folder / "README.md").write_text(rendered)
    assert "differs" not in push(hub, model_folder).stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/lfs/", "/commit/"])
def test_killed_in_the_middle_shows_nothing_and_a_second_run_finishes(
    hub: HubServer, model_folder: Path, next_version, path: str
):
    push(hub, model_folder)
    before = pushed(hub), titles(hub)
    next_version()
    hold = hub.inject(Fault("hold", "PUT" if path == "/lfs/" else "POST", path))
    with subprocess.Popen(push_command(model_folder), env=hub.env, cwd=ROOT, stderr=subprocess.PIPE) as process:
        assert hold.reached.wait(60)
        process.kill()
        process.communicate()
    hold.released.set()
    assert (pushed(hub), titles(hub)) == before
    assert push(hub, model_folder).returncode == 0
    assert len(titles(hub)) == 2
    assert hub.repository("user/faces").file("main", "model.safetensors")[1].content == weights_of(model_folder)


def weights_of(model_folder: Path) -> bytes:
    return (model_folder / "model.safetensors").read_bytes()


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
def test_after_5xx_and_dropped_connections_another_run_finishes(
    hub: HubServer, model_folder: Path, faults: list[Fault]
):
    for fault in faults:
        hub.inject(Fault(fault.kind, fault.method, fault.path, status=fault.status))
    for _ in faults:
        done = push(hub, model_folder, "--tag", "v1")
        if done.returncode == 0:  # the client repeats some requests by itself
            break
        assert "error: could not push" in done.stderr
        assert "run the same command again to finish" in done.stderr
        assert "Traceback" not in done.stderr
    done = push(hub, model_folder, "--tag", "v1")
    assert done.returncode == 0, done.stderr
    assert all(fault.times == 0 for fault in hub.faults)
    assert pushed(hub) == pushed(hub, "v1") == all_files(model_folder)
    assert titles(hub) == ["Upload run"]


@pytest.mark.slow
def test_pull_request(hub: HubServer, model_folder: Path, next_version):
    missing = push(hub, model_folder, "--create-pr")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: user/faces does not exist or is hidden from you: a pull request needs")
    push(hub, model_folder)
    next_version()
    done = push(hub, model_folder, "--create-pr", HF_TOKEN=hub.stranger_token)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/user/faces/discussions/1 holds" in done.stdout
    repository = hub.repository("user/faces")
    assert set(repository.pull_requests) == {"refs/pr/1"}
    assert titles(hub) == ["Upload run"]
    assert repository.file("refs/pr/1", "model.safetensors")[1].content == weights_of(model_folder)
    with_tag = push(hub, model_folder, "--create-pr", "--tag", "v2")
    assert "tag the version after merging it" in with_tag.stderr


@pytest.mark.slow
def test_branch(hub: HubServer, model_folder: Path, next_version):
    push(hub, model_folder)
    next_version()
    done = push(hub, model_folder, "--revision", "next")
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
def test_who_may_not_push_is_told_why(
    hub: HubServer, model_folder: Path, repo_id: str, env: dict[str, str], message: str
):
    done = push(hub, model_folder, repo_id=repo_id, **env)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network(model_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", HubServer.token)
    with pytest.raises(HubError, match=r"the connection to http://127.0.0.1:9 failed .* run the same"):
        push_folder(model_folder, "user/faces")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("https://cas.example"), "could not push: https://cas.example. A commit is made whole"),
        (TimeoutError("https://cas.example"), "could not push: https://cas.example. A commit is made whole"),
        (
            PermissionError(13, "Permission denied", "a.onnx"),
            r"could not push: \[Errno 13\] Permission denied: 'a.onnx'$",
        ),
    ],
)
def test_only_what_another_attempt_may_mend_is_to_be_run_again(error: OSError, message: str):
    with pytest.raises(HubError, match=message), hub_errors("could not push"):
        raise error
