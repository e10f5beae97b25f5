"""Trackers of `report_to`, offline: both heads' losses, the scores of every group, and the figures arrive."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.made_up_faces import write_utkface_folder
from trainer.publishing import report_scalars


ROOT = Path(__file__).parents[2]
LOSSES = {"age_loss", "gender_loss"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    """A folder with a finished run, run/, and what three trackers kept of it."""
    folder = tmp_path_factory.mktemp("tracked")
    faces = write_utkface_folder(folder / "faces", count=160, size=40)
    command = [sys.executable, "-m", "trainer.train", str(ROOT / "trainer/recipes/smoke.yaml"), "--dataset", str(faces)]
    command += ["--output_dir", str(folder / "run"), "--report_to", "tensorboard", "mlflow", "trackio"]
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "TRACKIO_"))}
    environment = outside | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def expected(tracked) -> dict[str, float]:
    scalars = report_scalars(json.loads((tracked / "run/metrics.json").read_text()))
    assert any(name.startswith("test groups/") and ", " in name for name in scalars)
    return scalars


@pytest.fixture(scope="module")
def figures(tracked) -> set[str]:
    return {path.stem for path in (tracked / "run/figures").glob("*.png")}


@pytest.mark.slow
def test_tensorboard(tracked, expected, figures):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [runs] = (tracked / "run.checkpoints/runs").iterdir()
    events = EventAccumulator(str(runs), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert {f"train/{name}" for name in LOSSES} | {f"eval/{name}" for name in LOSSES} <= set(tags["scalars"])
    for name, value in expected.items():
        assert events.Scalars(name)[-1].value == pytest.approx(value)
    assert set(tags["images"]) == {f"figures/{name}" for name in figures}


@pytest.mark.slow
def test_mlflow(tracked, expected, figures):
    with sqlite3.connect(tracked / "mlflow.db") as database:
        kept = dict(database.execute("SELECT key, value FROM metrics ORDER BY step"))
        [(name, artifacts)] = database.execute("SELECT name, artifact_uri FROM runs")
    assert name == "run"
    assert LOSSES | {f"eval_{loss}" for loss in LOSSES} <= set(kept)
    assert {
        key.replace("+", "_").replace(",", "_"): pytest.approx(value) for key, value in expected.items()
    }.items() <= (kept.items())
    folder = Path(artifacts.removeprefix("file://"))
    assert {path.stem for path in (folder / "figures").glob("*.png")} == figures


@pytest.mark.slow
def test_trackio(tracked, expected, figures):
    [path] = (tracked / "trackio").glob("*.db")
    with sqlite3.connect(path) as database:
        records = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics")]
        assert set(database.execute("SELECT run_name FROM metrics")) == {("run",)}
    kept = {key: value for record in records for key, value in record.items()}
    assert {f"train/{name}" for name in LOSSES} | {f"eval/{name}" for name in LOSSES} <= set(kept)
    for name, value in expected.items():
        assert kept[name] == pytest.approx(value)
    assert {name for name in kept if name.startswith("figures/")} == {f"figures/{name}" for name in figures}
