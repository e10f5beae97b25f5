"""Which models browsers can run, what their manifest says, and the static site: without a browser."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.device_files import NotOnDevice, code_files, manifest, network_file, runtime_file
from demo.serving import ServedModel, find_model
from demo.settings import ModelChoice
from demo.site import SiteError, write_site
from model.model_files import ModelFileError
from model_card.requirements import WEIGHTS, sha256
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


def test_the_runtime_is_the_pinned_one():
    """Of onnxruntime-web 1.30.0, as `npm pack` brings it."""
    assert runtime_file().sha256 == "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    assert gzip.decompress(runtime_file().gzipped) == runtime_file().read()
    assert runtime_file().read()[:4] == b"\0asm"
    assert (
        sha256(ROOT / "demo/web/device/runtime/ort.wasm.bundle.min.mjs")
        == "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"
    )


def test_modules_name_no_other_site():
    """YuNet's and the runtime's own addresses are text; the page would have to fetch what these modules fetch."""
    for path, content in code_files().items():
        if not path.startswith("device/runtime/"):
            assert b"http://" not in content.replace(b"http://www.w3.org/2000/svg", b""), path
            assert b"https://" not in content, path


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
