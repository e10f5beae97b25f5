"""Files that a loader parses whole are refused by their size before they are read, and on the Hub before they are fetched."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from demo.serving import find_model
from demo.settings import ModelChoice
from model.configuration_age_gender import load_backbone_config
from model.errors import AgeGenderError
from model.model_files import MAX_SMALL_FILE_BYTES, load_image_processor
from model.modeling_age_gender import AgeGenderModel
from tests.support.damaged_folders import by_link, text
from tests.support.hub_server import HubServer
from trainer.data.arguments import DataArguments
from trainer.evaluation.evaluate import EvaluationArguments, evaluate_model
from trainer.finetuning import describe_trained


FILES = (
    "config.json",
    "config.5.0.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model.safetensors.index.json",
)
LOADERS: dict[str, Callable[[str], object]] = {
    "a model": AgeGenderModel.from_pretrained,
    "its preprocessing": load_image_processor,
    "a backbone": lambda name: AgeGenderModel.from_backbone(name, image_size=32),
    "the configuration of a backbone": load_backbone_config,
    "the demo": lambda name: find_model(ModelChoice(name, name, None)),
}
REPO_ID = "user/large"


@pytest.fixture
def folder(saved_tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_tiny_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture
def client(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """The client of this process asks the Hub on loopback, which has an empty repository."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    client = HfApi(token=hub.token)
    client.create_repo(REPO_ID, exist_ok=True)
    return client


LARGE = b'{"model_type": "vit"}' + b" " * MAX_SMALL_FILE_BYTES


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("loader", LOADERS)
def test_of_a_folder(loader: str, file: str, folder: Path):
    text(file, LARGE)(folder)
    with pytest.raises(AgeGenderError, match=f"^{file} of .* has 1,000,021 bytes; at most 1,000,000 are read"):
        LOADERS[loader](str(folder))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("loader", LOADERS)
def test_of_a_repository(loader: str, file: str, hub: HubServer, client: HfApi):
    client.create_commit(REPO_ID, [CommitOperationAdd(file, LARGE)], commit_message="Add a large file")
    before = len(hub.requests)
    with pytest.raises(AgeGenderError, match=f"^{file} of {REPO_ID} has 1,000,021 bytes; at most 1,000,000 are read"):
        LOADERS[loader](REPO_ID)
    assert not [path for method, path in hub.requests[before:] if method == "GET" and "/resolve/" in path]
    client.delete_file(file, REPO_ID)


@pytest.mark.parametrize("file", ["config.json", "config.5.0.json", "preprocessor_config.json"])
@pytest.mark.parametrize("loader", [name for name in LOADERS if name != "the demo"])  # it finds that when it loads
def test_links_out_of_a_folder(loader: str, file: str, folder: Path):
    if not (folder / file).exists():
        shutil.copy(folder / "config.json", folder / file)
    by_link(file)(folder)
    with pytest.raises(AgeGenderError, match=f"{file} of .* is a link to a file outside that folder"):
        LOADERS[loader](str(folder))


def evaluate(name: str) -> None:
    evaluate_model(EvaluationArguments(model=name, output_dir="unused"), DataArguments())


@pytest.mark.parametrize(
    ("file", "load"),
    [
        *((file, LOADERS["the demo"]) for file in ("metrics.json", "figures/curves.png")),
        ("training_run.json", lambda name: describe_trained(name, None, "finetune_from")),
        ("config.json", evaluate),
    ],
)
def test_what_else_is_downloaded(file: str, load: Callable[[str], object], hub: HubServer, client: HfApi):
    client.create_commit(REPO_ID, [CommitOperationAdd(file, LARGE)], commit_message="Add a large file")
    before = len(hub.requests)
    with pytest.raises(AgeGenderError, match=f"^{file} of {REPO_ID} has 1,000,021 bytes"):
        load(REPO_ID)
    assert not [path for method, path in hub.requests[before:] if method == "GET" and "/resolve/" in path]
    client.delete_file(file, REPO_ID)
