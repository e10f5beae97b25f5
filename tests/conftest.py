"""Fixtures that several test files share."""

import gc
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import Browser, Page, expect
from skimage.data import astronaut

from model_card.card import render_card
from tests.support.demo_server import DemoServer
from tests.support.faces_on_disk import write_folder
from tests.support.hub_server import HubServer
from tests.support.loaded_faces import FILES
from tests.support.made_up_faces import write_utkface_folder
from tests.support.tiny_model import save_tiny_model
from tests.support.tiny_run import train_tiny_run, write_faces
from tests.support.training_runs import arguments as training_arguments
from tests.support.training_runs import threads
from tests.support.visitors import chromium, visit
from tests.support.warm_python import HUB_HOME, HUB_PORT, warm_python
from trainer.data.arguments import DataArguments
from trainer.train import main as train


ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_finish() -> None:
    """Exempt what was imported from collections: each training ends with one, which would look at half a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder beside the repository that holds the real data and detector weights."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED}, which is not on this machine")
    return SHARED


@pytest.fixture(scope="module")
def saved_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model with random weights. Tests must not change it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder)
    return folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty Hub on loopback. Its `env` belongs to a subprocess: the client reads its endpoint when imported."""
    with HubServer(HUB_HOME, HUB_PORT) as server:
        yield server
    shutil.rmtree(HUB_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the runs of tests.support.training_runs learn from."""
    return write_utkface_folder(tmp_path_factory.mktemp("data") / "faces", count=240, size=48)


@pytest.fixture(scope="session")
def few_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_utkface_folder(tmp_path_factory.mktemp("data") / "faces", count=120, size=40)


@pytest.fixture
def quick(few_faces: Path, tmp_path: Path) -> list[str]:
    """Arguments of a short run."""
    return ["--dataset", str(few_faces), "--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def single_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="session")
def varied_run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run with the recipe's augmentation; not to be changed."""
    output_dir = tmp_path_factory.mktemp("varied") / "run"
    with threads(1):
        train(training_arguments(faces, output_dir))
    return output_dir


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the tests of the data keep what they have prepared."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def arguments(cache: str) -> Callable[..., DataArguments]:
    def build(dataset: object, **options: object) -> DataArguments:
        return DataArguments(dataset=str(dataset), cache_dir=cache, **options)

    return build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FILES of tests.support.loaded_faces in a folder that no test changes, so that most tests find them cleaned."""
    return write_folder(tmp_path_factory.mktemp("faces"), FILES)


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two finished runs that differ in their weights, as training leaves them; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny_runs")
    faces = write_faces(folder)
    return train_tiny_run(folder / "run0", faces, seed=0), train_tiny_run(folder / "run1", faces, seed=1)


@pytest.fixture
def model_folder(tiny_runs: tuple[Path, Path], tmp_path: Path) -> Path:
    """A complete model folder, to be pushed or spoilt."""
    return Path(shutil.copytree(tiny_runs[0], tmp_path / "run"))


@pytest.fixture(scope="session")
def exported_run(tiny_runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first run after `scripts.export_onnx`, with what it said in export.log and a card that shows it."""
    folder = Path(shutil.copytree(tiny_runs[0], tmp_path_factory.mktemp("exported") / "run"))
    faces = tiny_runs[0].with_name("utkface")
    command = [warm_python(), "-m", "scripts.export_onnx", "--model", folder, "--int8", "--web", "--dataset", faces]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()
    (folder / "export.log").write_text(done.stdout)
    (folder / "README.md").write_text(render_card(folder, "user/faces", "v1"))
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The running demo with a tiny model of random weights, whose folder is its MODEL_ID; its log holds nothing private."""
    folder = tmp_path_factory.mktemp("demo")
    save_tiny_model(folder / "tiny")
    (folder / "tiny" / "figures").mkdir()
    PIL.Image.new("RGB", (30, 20)).save(folder / "tiny" / "figures" / "curve.png")
    with (folder / "tiny" / "README.md").open("a") as card:
        card.write("\n![learning curve](figures/curve.png)\n")
    environment = {"MODEL_ID": str(folder / "tiny"), "REQUESTS_PER_MINUTE": "100000", "GRADIO_MCP_SERVER": "True"}
    with DemoServer(folder, **environment) as server:
        yield server
    assert server.private_words_in_log() == []


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo with a login, narrow limits, and two tiny models to choose from: First and Second, folders of these names."""
    folder = tmp_path_factory.mktemp("guarded")
    for seed, name in enumerate(("First", "Second")):
        save_tiny_model(folder / name, seed=seed)
        (folder / name / "README.md").write_text(f"# The {name.lower()} of two\n")
    environment = {
        "MODEL_IDS": f"{folder / 'First'}, {folder / 'Second'}",
        "DEMO_AUTH": "ann:secret",
        "REQUESTS_PER_MINUTE": "40",
        "QUEUE_SIZE": "2",
        "CONCURRENCY": "1",
    }
    with DemoServer(folder, **environment) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("camera")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, demo: DemoServer) -> Iterator[Page]:
    with visit(browser, demo) as page:
        expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
        yield page


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    PIL.Image.fromarray(astronaut()).save(path)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two portraits in one picture."""
    path = tmp_path_factory.mktemp("two") / "two.png"
    PIL.Image.fromarray(np.hstack([astronaut(), astronaut()])).save(path)
    return path
