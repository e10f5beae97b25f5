"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from tests.demo_server import DemoServer
from tests.hub_server import HubServer
from tests.tiny_model import save_tiny_model


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder beside the repository that holds the real data and detector weights."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED}, which is not on this machine")
    return SHARED


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub on loopback. Its `env` belongs to a subprocess: the client reads its endpoint when imported."""
    with HubServer(tmp_path / "hf_home") as server:
        yield server


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The running demo with a tiny model of random weights, whose folder is its MODEL_ID."""
    folder = tmp_path_factory.mktemp("demo")
    save_tiny_model(folder / "tiny")
    (folder / "tiny" / "figures").mkdir()
    PIL.Image.new("RGB", (30, 20)).save(folder / "tiny" / "figures" / "curve.png")
    with (folder / "tiny" / "README.md").open("a") as card:
        card.write("\n![learning curve](figures/curve.png)\n")
    with DemoServer(folder, MODEL_ID=str(folder / "tiny"), MAX_PICTURE_MB="3", GRADIO_MCP_SERVER="True") as server:
        yield server
