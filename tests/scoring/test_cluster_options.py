"""`--ray` where it cannot work: one clear line, before any work."""

import socket
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from model.errors import AgeGenderError
from scoring.run import OptionError
from scripts.predict import main, read_arguments
from tests.support.made_up_faces import draw_face


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def options(saved_tiny_model: Path, tmp_path: Path) -> list[str]:
    draw_face(30, 0, seed=0).save(tmp_path / "face.jpg")
    return [str(tmp_path / "face.jpg"), "--model", str(saved_tiny_model), "--output", str(tmp_path / "out"), "--ray"]


def test_nothing_else_imports_ray():
    code = "import sys, scripts.predict, scripts.prepare_data, scripts.tune; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_it_is_not_installed(options, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith(("cluster", "scoring.cluster"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(AgeGenderError, match=r"not installed: pip install -r requirements-scale\.txt"):
        main(read_arguments([*options, "auto"]))


def test_nothing_is_written_without_an_output():
    with pytest.raises(OptionError, match="Expected --output FOLDER with --ray"):
        read_arguments(["photos", "--ray", "auto"])


def test_addresses_that_do_not_answer(options):
    pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        AgeGenderError, match=rf"^No cluster answers at 127\.0\.0\.1:{port}: .*refused.* Check the address"
    ):
        main(read_arguments([*options, f"127.0.0.1:{port}"]))
    with pytest.raises(AgeGenderError, match=r"Expected --ray auto, local or host:port, .*got ray://somewhere:1"):
        main(read_arguments([*options, "ray://somewhere:1"]))


def test_machines_with_other_versions():
    pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
    from cluster.machines import check_versions, versions

    check_versions("10.0.0.2", versions(), versions())
    older = versions() | {"torch": "2.0.0", "code of this repository": "0"}
    with pytest.raises(
        AgeGenderError, match=r"^The machine 10\.0\.0\.2 has torch 2\.0\.0 in place of .*, code of this"
    ):
        check_versions("10.0.0.2", versions(), older)


def test_all_code_that_workers_import_is_compared():
    """`versions` hashes it, and is called by `check_machines` on each of them."""
    pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
    from cluster.machines import CODE

    graph = grimp.build_graph("model", "model_card", "trainer", "cluster", "scoring", cache_dir=None)
    run_there = {"cluster.machines", "cluster.trials", "scoring.cluster.stages", "scoring.cluster.attempts"}
    imported = run_there.union(*map(graph.find_upstream_modules, run_there))
    compared = {path.relative_to(ROOT).with_suffix("") for pattern in CODE for path in ROOT.glob(pattern)}
    names = {".".join(path.parts).removesuffix(".__init__") for path in compared}
    assert imported - names == set()


def test_videos_are_left_to_one_machine(options, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
    (tmp_path / "film.mp4").write_bytes(b"")
    with pytest.raises(AgeGenderError, match="Video cannot be shared out by --ray"):
        main(read_arguments([str(tmp_path / "film.mp4"), *options[1:], "auto"]))
