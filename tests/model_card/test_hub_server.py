"""The loopback Hub, held against the real client: what the other tests build on must behave as the Hub does."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub_server import Fault, HubServer


CARD = b"---\nlicense: other\npipeline_tag: image-classification\n---\n# A model\n"


@pytest.fixture
def api(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return HfApi(endpoint=hub.url, token=hub.token)


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_commits_are_snapshots_that_branches_tags_and_pull_requests_name(api: HfApi, tmp_path: Path):
    assert api.create_repo("user/repo", private=True) == f"{api.endpoint}/user/repo"
    weights = [b"first" * 100, b"second" * 100]
    first = api.create_commit(
        "user/repo", [add("README.md", CARD), add("model.safetensors", weights[0])], commit_message="one"
    )
    api.create_tag("user/repo", tag="v1")
    api.create_branch("user/repo", branch="next/step")
    operations = [add("model.safetensors", weights[1]), CommitOperationDelete("README.md")]
    second = api.create_commit("user/repo", operations, commit_message="two")
    proposal = api.create_commit("user/repo", [add("figures/a.png", b"png")], commit_message="three", create_pr=True)

    assert proposal.pr_revision == "refs/pr/1"
    expected = {
        "main": weights[1],
        second.oid: weights[1],
        "refs/pr/1": weights[1],
        "v1": weights[0],
        "next/step": weights[0],
        first.oid: weights[0],
        first.oid[:8]: weights[0],
    }
    for revision, content in expected.items():
        path = api.hf_hub_download("user/repo", "model.safetensors", revision=revision, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content, revision
    assert [c.title for c in api.list_repo_commits("user/repo")] == ["two", "one", "initial commit"]
    assert "README.md" not in api.list_repo_files("user/repo")
    folder = Path(api.snapshot_download("user/repo", revision="refs/pr/1", cache_dir=tmp_path))
    assert (folder / "figures/a.png").read_bytes() == b"png"
    info = api.model_info("user/repo", revision="v1")
    assert (info.private, info.pipeline_tag, info.sha) == (True, "image-classification", first.oid)
    refs = api.list_repo_refs("user/repo", include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "next/step"]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first.oid)]
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests] == [("refs/pr/1", proposal.oid)]
    [entry] = api.get_paths_info("user/repo", ["model.safetensors", "absent"])
    assert entry.lfs.size == len(weights[1])


def test_same_content_makes_no_commit(api: HfApi, hub: HubServer):
    api.create_repo("user/repo")
    commits = [
        api.create_commit("user/repo", [add("a.json", b"{}"), add("b.onnx", b"o")], commit_message="m").oid
        for _ in range(2)
    ]
    assert commits[0] == commits[1] == hub.repository("user/repo").branches["main"].oid


def test_datasets_and_spaces_are_repositories_too(api: HfApi, tmp_path: Path):
    for kind in ("dataset", "space"):
        api.create_repo("user/same-name", repo_type=kind, space_sdk="gradio" if kind == "space" else None)
        api.create_commit("user/same-name", [add("kind.txt", kind.encode())], commit_message="kind", repo_type=kind)
    for kind in ("dataset", "space"):
        path = api.hf_hub_download("user/same-name", "kind.txt", repo_type=kind, cache_dir=tmp_path)
        assert Path(path).read_text() == kind
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("user/same-name")
    api.delete_repo("user/same-name", repo_type="space")
    assert not api.repo_exists("user/same-name", repo_type="space")


def test_refusals(api: HfApi, hub: HubServer, tmp_path: Path):
    api.create_repo("user/private", private=True)
    api.create_repo("user/public")
    reader, stranger, nobody = (
        HfApi(endpoint=hub.url, token=token) for token in (hub.read_token, hub.stranger_token, False)
    )
    assert reader.model_info("user/private").private
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info("user/private")
    with pytest.raises(RepositoryNotFoundError):
        nobody.model_info("user/private")
    with pytest.raises(RevisionNotFoundError):
        nobody.model_info("user/public", revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        nobody.hf_hub_download("user/public", "absent.json", cache_dir=tmp_path)
    for caller in (reader, stranger):
        with pytest.raises(HfHubHTTPError, match="403"):
            caller.create_commit("user/public", [add("a.txt", b"a")], commit_message="mine")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("user/public")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_wrong").whoami()
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.create_commit("user/public", [add("README.md", b"---\na: [\n---\n")], commit_message="bad card")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("user/public", [add("a", b"a")], commit_message="late", parent_commit="0" * 40)
    assert stranger.create_commit("user/public", [add("a", b"a")], commit_message="pr", create_pr=True).pr_num == 1


@pytest.mark.parametrize(
    ("kind", "message", "commits"),
    [
        ("status", "503", 0),
        ("drop", "disconnected|reset", 0),
        ("drop_answer", "disconnected|reset", 1),  # carried out, though the caller never hears of it
    ],
)
def test_a_commit_is_refused_dropped_or_answered_to_nobody(
    api: HfApi, hub: HubServer, kind: str, message: str, commits: int
):
    api.create_repo("user/repo")
    hub.inject(Fault(kind, "POST", "/commit/"))
    with pytest.raises((HfHubHTTPError, httpx2.TransportError), match=message):
        api.create_commit("user/repo", [add("model.safetensors", b"weights")], commit_message="m")
    assert len(hub.repository("user/repo").all_commits) == 1 + commits


def test_the_client_repeats_an_upload_that_was_dropped(api: HfApi, hub: HubServer):
    api.create_repo("user/repo")
    fault = hub.inject(Fault("drop", "PUT", "/lfs/"))
    api.create_commit("user/repo", [add("model.safetensors", b"weights")], commit_message="m")
    assert fault.times == 0
    assert [method for method, path in hub.requests if path.startswith("/lfs/")] == ["PUT", "PUT"]


@pytest.mark.slow
def test_runs_as_a_command(tmp_path: Path):
    """`python -m tests.support.hub_server` prints what a shell needs."""
    command = [sys.executable, "-m", "tests.support.hub_server", "--home", str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(6)]
            variables = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
            assert set(variables) >= {"HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "HF_HUB_DISABLE_XET"}
            assert HfApi(endpoint=variables["HF_ENDPOINT"], token=variables["HF_TOKEN"]).whoami()["name"] == "user"
        finally:
            process.terminate()


DATASET = """
from datasets import Dataset, Features, Image, Value, config, load_dataset
from PIL import Image as PIL

config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # streamed parquet waits 5 s otherwise
rows = {"image": [PIL.new("RGB", (8, 8), (i, 0, 0)) for i in range(6)], "age": list(range(6))}
pushed = Dataset.from_dict(rows, features=Features({"image": Image(), "age": Value("int32")}))
pushed.push_to_hub("user/faces", split="train")
loaded = load_dataset("user/faces", split="train")
streamed = list(load_dataset("user/faces", split="train", streaming=True))
assert loaded["age"][:] == [row["age"] for row in streamed] == list(range(6))
assert loaded[3]["image"].size == (8, 8)
"""


@pytest.mark.slow
def test_a_data_set_is_pushed_loaded_and_streamed(hub: HubServer):
    done = subprocess.run([sys.executable, "-c", DATASET], env=hub.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "README.md" in hub.repository("user/faces", "datasets").branches["main"].files
