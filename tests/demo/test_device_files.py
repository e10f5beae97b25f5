"""Which models browsers can run, what their manifest says, and the static site: without a browser."""

import asyncio
import gzip
import inspect
import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from demo.device_camera import device_routes
from demo.device_files import (
    RUNTIMES,
    NotOnDevice,
    SiteError,
    WebFile,
    code_files,
    manifest,
    network_file,
    write_site,
)
from demo.serving import ServedModel, find_model
from demo.settings import ModelChoice
from model.model_files import ModelFileError
from model.pipeline_age_gender import AgeGenderPipeline
from model_card.output_files import OutputLockedError, only_writer
from model_card.requirements import WEIGHTS, sha256
from scripts import export_web
from tests.support.demo_server import ROOT
from tests.support.tiny_model import save_tiny_model


@pytest.fixture
def served(tmp_path: Path) -> ServedModel:
    """A tiny model whose network for browsers is a file of the right name and hash."""
    folder = tmp_path / "tiny"
    save_tiny_model(folder, gender_threshold=0.7)
    (folder / "onnx").mkdir()
    network = folder / "onnx" / "model_web.onnx"
    network.write_bytes(b"a network")
    comparison = {"weights_sha256": sha256(folder / WEIGHTS), "files": {network.name: {"sha256": sha256(network)}}}
    (folder / "onnx" / "comparison.json").write_text(json.dumps(comparison))
    return find_model(ModelChoice("tiny", str(folder)))


def linked_out(path: Path) -> None:
    """Its content lies outside of the model's folder."""
    outside = path.parents[2] / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda onnx: (onnx / "model_web.onnx").unlink(),
            r"model_web\.onnx is missing\. Run `python -m scripts\.export",
        ),
        (lambda onnx: (onnx / "model_web.onnx").write_bytes(b"other"), "was exported from other weights.* again"),
        (lambda onnx: (onnx.parent / WEIGHTS).write_bytes(b"other"), "was exported from other weights.* again"),
        (lambda onnx: (onnx / "comparison.json").unlink(), "does not say what .* was made from"),
        (lambda onnx: (onnx / "comparison.json").write_text("[1]"), "does not say what .* was made from"),
        (lambda onnx: (onnx / "comparison.json").write_text("{"), "does not say what .* was made from"),
        (lambda onnx: linked_out(onnx / "model_web.onnx"), "is a link to a file outside"),
        (lambda onnx: linked_out(onnx / "comparison.json"), "is a link to a file outside"),
        (linked_out, "is a link to a file outside"),
    ],
    ids=[
        *("missing", "another file", "other weights", "no comparison", "a list", "broken"),
        *("a link", "a linked comparison", "a linked folder"),
    ],
)
def test_a_network_that_is_not_the_models(served: ServedModel, spoil: Callable[[Path], object], message: str):
    spoil(served.folder / "onnx")
    with pytest.raises(NotOnDevice, match=message):
        network_file(served.folder)


def test_a_network_too_large_for_browsers(served: ServedModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("demo.device_files.MAX_NETWORK_MB", 0)
    with pytest.raises(NotOnDevice, match="too large for browsers"):
        network_file(served.folder)


def test_a_linked_preprocessing_is_not_published(served: ServedModel):
    network = network_file(served.folder)
    linked_out(served.folder / "preprocessor_config.json")
    with pytest.raises(ModelFileError, match="is a link to a file outside"):
        manifest("tiny", served.folder, network, lambda file: file.path)


def test_the_manifest_says_what_answers_depend_on(served: ServedModel):
    described = manifest("tiny", served.folder, network_file(served.folder), lambda file: file.path)
    config = json.loads((served.folder / "config.json").read_text())
    assert described["config"] == {name: config[name] for name in described["config"]}
    assert described["config"]["gender_threshold"] == 0.7
    assert described["preprocessor"] == json.loads((served.folder / "preprocessor_config.json").read_text())
    assert described["files"]["model"]["bytes"] == len(b"a network")
    default = inspect.signature(AgeGenderPipeline.preprocess).parameters["min_score"].default
    assert described["detector"]["min_score"] == default


def ask(app: Starlette, times: int) -> list[tuple[int, dict]]:
    """So many visitors at the same time -> status and JSON of each answer."""

    async def get() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://demo") as http:
            return await asyncio.gather(*(http.get("/device/models/0.json") for _ in range(times)))

    return [(answer.status_code, answer.json()) for answer in asyncio.run(get())]


@pytest.mark.parametrize("can_run", [True, False])
def test_a_manifest_is_made_once_and_not_by_the_thread_that_serves(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch, can_run: bool
):
    makers = []

    def counted(folder: Path) -> WebFile:
        makers.append(threading.current_thread())
        return network_file(folder)

    monkeypatch.setattr("demo.device_camera.network_file", counted)
    if not can_run:
        (served.folder / "onnx" / "model_web.onnx").unlink()
    app = Starlette(routes=device_routes([served]))
    app.auth = None
    answers = ask(app, 10)
    shutil.rmtree(served.folder)
    answers += ask(app, 10)
    assert {status for status, _ in answers} == {200 if can_run else 404}
    assert all(body == answers[0][1] for _, body in answers)
    assert len(makers) == 1
    assert makers[0] is not threading.main_thread()


PINNED = {
    "wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "webgpu": "a54c76f86b0f0d9572380cf1c6292a7b3903716ffcbcd6b0e5c7050bf430eb93",
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort.jspi.bundle.min.mjs": "07ec090355e11b342c95436db54da2d0c2bd5b1d319745bfd3337e6bdcf170ac",
}


def test_the_runtimes_are_the_pinned_ones():
    """Of onnxruntime-web 1.30.0, as `npm pack` brings them."""
    hashes = {engine: file.sha256 for engine, file in RUNTIMES.items()}
    hashes |= {path.name: sha256(path) for path in (ROOT / "demo/web/device/runtime").glob("*.mjs")}
    assert hashes == PINNED
    for file in RUNTIMES.values():
        assert gzip.decompress(file.gzipped) == file.read()
        assert file.read()[:4] == b"\0asm"


def test_modules_name_no_other_site():
    """YuNet's and the runtime's own addresses are text; the page would have to fetch what these modules fetch."""
    for path, content in code_files().items():
        if not path.startswith("device/runtime/"):
            assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b""), path
            assert b"https://" not in content, path


def test_a_site_is_whole_or_as_it_was(served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A start that ends while it writes leaves the earlier site, and the next one what nobody needs any more."""
    site = tmp_path / "site"
    write_site(served, site)
    (site / "old.js").write_text("")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda path, target: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="the disk is full"):
            write_site(served, site)
    assert (site / "old.js").exists()
    paths = write_site(served, site)
    assert sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file()) == paths
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_two_exports_do_not_write_one_site(served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site = tmp_path / "site"
    monkeypatch.setattr(sys, "argv", ["export_web", "--model", str(served.folder), "--output", str(site)])
    with only_writer(site, "--output"), pytest.raises(OutputLockedError):
        export_web.main()
    export_web.main()
    assert (site / "index.html").is_file()


def test_a_linked_card_is_not_published(served: ServedModel, tmp_path: Path):
    (tmp_path / "secret").write_text("a secret")
    card = served.folder / "README.md"
    card.unlink(missing_ok=True)
    card.symlink_to(tmp_path / "secret")
    write_site(served, tmp_path / "site")
    assert "secret" not in (tmp_path / "site" / "model" / "README.md").read_text()


def test_a_site_replaces_an_earlier_one_and_nothing_else(served: ServedModel, tmp_path: Path):
    site = tmp_path / "site"
    paths = write_site(served, site)
    (site / "old.js").write_text("")
    assert write_site(served, site) == paths
    assert sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file()) == paths
    files = json.loads((site / "manifest.json").read_text())["files"].values()
    assert all((site / file["url"]).stat().st_size == file["bytes"] for file in files)
    (site / "manifest.json").unlink()
    with pytest.raises(SiteError, match="holds other files"):
        write_site(served, site)
    assert (site / "index.html").exists()
    shutil.rmtree(served.folder / "onnx")
    with pytest.raises(NotOnDevice):
        write_site(served, tmp_path / "new")
    assert not (tmp_path / "new").exists()
