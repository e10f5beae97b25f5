"""What would keep a run from ending well is said in its first seconds, before the faces are read."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi

from model.errors import AgeGenderError
from tests.support.hub_server import HubServer
from tests.support.training_runs import SMOKE
from trainer.train import main


@pytest.fixture
def asked_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub that this process asks: signed in as "user", with repositories of others on it."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    HfApi(hub.url, token=hub.stranger_token).create_repo("stranger/faces")
    HfApi(hub.url, token=hub.token).create_repo("user/public")
    return hub


def start(tmp_path: Path, *overrides: str) -> None:
    """Start a run of faces that do not exist: it must fail before it looks for them."""
    main([SMOKE, "--dataset", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "run"), *overrides])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--hub_model_id", "faces"], r"'faces' is not the name of a repository, user/name: write whose it is"),
        (["--hub_model_id", "user/fa ces"], r"'user/fa ces' is not the name of a repository, user/name: "),
        (["--hub_model_id", "user/faces--1"], r"'user/faces--1' is not the name of a repository"),
        (["--output_dir", "results/mein lauf"], r"'user/mein lauf' is not the name of a repository"),
        (
            ["--hub_model_id", "stranger/mine"],
            r"stranger/mine does not exist.* of user cannot create it.* of user, org$",
        ),
        (["--hub_model_id", "stranger/faces"], r"could not ask.* stranger/faces: this token may not write there"),
        (
            ["--hub_model_id", "user/public", "--hub_private_repo", "true"],
            r"user/public exists and is public, not private",
        ),
        (["--hub_model_id", "user/new", "--report", "false"], r"push_to_hub: true needs the report"),
    ],
)
def test_where_a_run_cannot_be_pushed_to(asked_hub, tmp_path, overrides, message):
    with pytest.raises(AgeGenderError, match=message):
        start(tmp_path, "--push_to_hub", "true", *overrides)


@pytest.mark.parametrize("repo_id", ["user/new", "user/public", "org/new"])
def test_a_token_that_may_not_write(asked_hub, tmp_path, monkeypatch, repo_id):
    monkeypatch.setenv("HF_TOKEN", asked_hub.read_token)
    with pytest.raises(AgeGenderError, match=r"may only read|this token may not write there"):
        start(tmp_path, "--push_to_hub", "true", "--hub_model_id", repo_id)


@pytest.mark.parametrize("repo_id", ["user/new", "user/public", "org/new"])
def test_nothing_is_created_before_training(asked_hub, tmp_path, repo_id):
    with pytest.raises(AgeGenderError, match=r"nowhere"):
        start(tmp_path, "--push_to_hub", "true", "--hub_model_id", repo_id)
    assert not any(method != "GET" for method, path in asked_hub.requests[2:])
