"""A prepared set on the Hub: it is pushed as one commit, and streams and trains from there."""

import os
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, _upload_pipeline, constants

from model_card.hub_checks import HubError
from tests.support.faces_on_disk import write_folder
from tests.support.hub_server import Fault, HubServer
from tests.support.warm_python import warm_python
from trainer.data.loading import load_faces
from trainer.data.preparation import push


ROOT = Path(__file__).resolve().parents[3]


def test_a_push_is_one_commit(prepared, hub: HubServer, monkeypatch, tmp_path):
    """Even where the client's Xet library uploads, and would commit in batches: here of one file."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(_upload_pipeline, "COMMIT_SIZE_SCALE", [1])
    monkeypatch.setattr(_upload_pipeline, "INITIAL_COMMIT_SIZE_INDEX", 0)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    HfApi().create_repo("user/faces", repo_type="dataset", private=True)
    stale = [CommitOperationAdd(path, b"old") for path in ("data/train-00000-of-00099.csv", "LICENSE")]
    HfApi().create_commit("user/faces", stale, repo_type="dataset", commit_message="An earlier set")

    files = {path.relative_to(prepared).as_posix(): path for path in prepared.rglob("*") if path.is_file()}
    hub.take_from_xet(path.read_bytes() for path in files.values())
    push(prepared, "user/faces", public=False)
    assert ("GET", "/api/datasets/user/faces/xet-write-token/main") in hub.requests
    commit = hub.repository("user/faces", "datasets").branches["main"]
    assert [entry.title for entry in commit.history()] == ["Upload faces", "An earlier set", "initial commit"]
    assert commit.files.keys() == files.keys() | {"LICENSE", ".gitattributes"}

    for path in ("/xet-write-token/", "/commit/"):
        hub.inject(Fault("status", "GET" if "xet" in path else "POST", path, status=404))
        other = write_folder(tmp_path / "other", {"data/train-00000-of-00001.parquet": path.encode()})
        with pytest.raises(HubError, match=r"HF_HUB_DISABLE_XET=1 hf upload user/faces .*other .*404"):
            push(other, "user/faces", public=False)
    assert hub.repository("user/faces", "datasets").branches["main"] == commit


@pytest.mark.slow
def test_push_stream_and_train_from_the_hub(raw, hub: HubServer, tmp_path):
    """The commands of a user, with the real client, each in its own process."""

    def run(*command: str, code: int = 0) -> str:
        done = subprocess.run(
            [warm_python(), *command], cwd=ROOT, env=os.environ | hub.env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    prepare = ["-m", "scripts.prepare_data", "--dataset", raw.dataset, "--cache-dir", str(raw.cache_dir)]
    printed = run(*prepare, "--output-dir", str(tmp_path / "faces"), "--push-to-hub", "user/faces")
    assert "87 files: 65 kept" in printed
    assert hub.url in printed
    state = "from huggingface_hub import HfApi; print('private:', HfApi().dataset_info('user/faces').private)"
    assert "private: True" in run("-c", state)
    load = """
from trainer.data.loading import DataArguments, load_faces
for streaming in (False, True):
    faces = load_faces(DataArguments(dataset="user/faces", streaming=streaming), seed=0)
    print({split: len(list(rows)) for split, rows in faces.items()})
"""
    sizes = {split: len(rows) for split, rows in load_faces(raw, seed=0).items()}
    assert run("-c", load).count(str(sizes)) == 2

    again = run(*prepare, "--output-dir", str(tmp_path / "b"), "--push-to-hub", "user/faces", "--seed", "1")
    assert "Pushed to" in again
    public = "from huggingface_hub import HfApi; HfApi().create_repo('user/open', repo_type='dataset', private=False)"
    run("-c", public)
    refused = run(*prepare, "--output-dir", str(tmp_path / "c"), "--push-to-hub", "user/open", code=1)
    assert "user/open exists and is public: add --public" in refused
    assert not (tmp_path / "c").exists()
