"""Which models the demo serves, and what the operator reads who named another one."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import HfApi, constants

from demo.serving import ModelNotServable, find_model
from demo.settings import ModelChoice
from tests.support.hub_server import HubServer
from tests.support.hub_storage import HubError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub that this process asks, on loopback, with user/faces, which is no model yet."""
    with HubServer(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        addresses = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", addresses)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        HfApi(token=server.token).create_repo("user/faces")
        yield server


def refusal(model_id: str) -> str:
    """It is read by operators of the demo and by those of scripts.export_web, who set no variables."""
    with pytest.raises(ModelNotServable) as refused:
        find_model(ModelChoice("mine", model_id))
    assert "MODEL_ID" not in str(refused.value)
    return str(refused.value)


def test_a_folder_without_weights_says_what_is_missing(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    said = refusal(str(tmp_path))
    assert "preprocessor_config.json, model.safetensors not found (there is: config.json)" in said
    assert "name the folder of a finished run, or a Hub id" in said


def test_a_repository_without_files_of_a_model_says_what_is_missing(hub: HubServer):
    """Nothing of it is fetched, so that it has no folder."""
    assert "model.safetensors not found (there is: nothing)" in refusal("user/faces")


def test_a_model_that_cannot_be_kept_says_why(hub: HubServer, tmp_path: Path):
    """As on a full disk: the network is not at fault."""
    HfApi(token=hub.token).upload_file(repo_id="user/faces", path_in_repo="config.json", path_or_fileobj=b"{}")
    (tmp_path / "cache").write_text("a file where the cache's folder should be")
    said = refusal("user/faces")
    assert "'user/faces' could not be fetched from the Hub, and is not in this machine's cache: [Errno " in said
    assert "network" not in said


def test_a_gated_model_says_where_its_terms_are(hub: HubServer, monkeypatch: pytest.MonkeyPatch):
    def refuse(revision: str) -> NoReturn:
        raise HubError(403, "Access to model user/faces is restricted", "GatedRepo")

    monkeypatch.setattr(hub.repository("user/faces"), "resolve", refuse)
    said = refusal("user/faces")
    assert "accept its terms on https://huggingface.co/user/faces" in said
    assert "HF_TOKEN" in said
