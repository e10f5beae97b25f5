"""A camera that shows a swaying face, a model that browsers can run, the demo and the static site with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts import export_web
from scripts.benchmarks.visiting import serve_folder
from scripts.maintenance.sway_sheet import swaying_film
from tests.support.demo_server import DemoServer
from tests.support.visitors import PATIENCE_MS, chromium
from tests.support.web_model import save_web_model


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """With a camera that shows the swaying face."""
    folder = tmp_path_factory.mktemp("camera")
    with chromium(folder, swaying_film(folder / "sway.mjpeg")) as browser:
        yield browser


@pytest.fixture(scope="session")
def web_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "tiny"
    save_web_model(folder)
    return folder


@pytest.fixture(scope="module")
def site(web_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the static site that `scripts.export_web` writes, with a tiny model."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["export_web", "--model", str(web_model), "--output", str(folder)])
        export_web.main()
    with serve_folder(folder) as address:
        yield address


@pytest.fixture(scope="session")
def device_demo(web_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """The demo with a model that browsers can run, by two names to choose from: First and Second."""
    environment = {"MODEL_IDS": f"First={web_model},Second={web_model}", "REQUESTS_PER_MINUTE": "100000"}
    with DemoServer(tmp_path_factory.mktemp("demo"), **environment) as server:
        yield server
    assert server.private_words_in_log() == []


@pytest.fixture
def site_page(browser: Browser, site: str) -> Iterator[Page]:
    context = browser.new_context(permissions=["camera"])
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    page.goto(site)
    yield page
    context.close()
