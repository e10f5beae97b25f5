"""`--ray` of prepare_data and tune: what one machine gives, from several."""

from collections.abc import Iterator

import optuna
import PIL.Image
import pytest
from optuna.trial import TrialState

from scripts.prepare_data import main as prepare
from scripts.tune import main as tune
from tests.support.faces_on_disk import as_jpeg
from tests.support.made_up_faces import write_utkface_folder
from tests.support.training_runs import SMOKE


pytest.importorskip("ray", reason="needs Ray: pip install -r requirements-scale.txt")
from tests.support.ray_machines import Machines, machines


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_machines() -> Iterator[Machines]:
    with machines() as started:
        yield started


def test_the_same_manifest_to_the_byte(two_machines, tmp_path, capsys):
    """Of faces with copies of some, and a file that is no picture."""
    source = write_utkface_folder(tmp_path / "faces", count=120, size=64)
    for path in sorted(source.iterdir())[:20]:
        with PIL.Image.open(path) as picture:
            smaller = as_jpeg(picture.convert("RGB").resize((56, 56)))
        path.with_name(path.name.replace("_20170109", "_20170110")).write_bytes(smaller)
    (source / "30_0_0_20170101000000000.jpg").write_text("not a picture")
    arguments = ["--dataset", str(source), "--max_unusable_fraction", "0.5"]
    results = {}
    for name, options in {"alone": [], "together": ["--ray", "auto"]}.items():
        cache = ["--cache_dir", str(tmp_path / f"cache_{name}")]  # or the second would find what the first has read
        prepare([*arguments, *cache, *options, "--output_dir", str(tmp_path / name)])
        results[name] = capsys.readouterr().out
    assert results["alone"] == results["together"]
    assert "near-duplicates there are 20 groups" in results["alone"]
    files = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".parquet", ".csv", ".json", ".md"}
    for file in files:
        if file.suffix != ".png":
            assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "together" / file).read_bytes(), file


def test_trials_side_by_side_fill_one_study(two_machines, quick, tmp_path, capsys):
    """A search that was started on a cluster is resumed on one machine."""
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {low: 1e-4, high: 1e-2, log: true}\n")
    command = [SMOKE, *quick, "--space", str(space)]
    tune([*command, "--trials", "3", "--ray", "auto"])
    study = tune([*command, "--trials", "4"])
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 4
    first, second = study.trials[:2]
    assert second.datetime_start < first.datetime_complete
    assert first.datetime_start < second.datetime_complete
    assert "| trial | state | age_mae | learning_rate |" in capsys.readouterr().out
    stored = optuna.load_study(storage=f"sqlite:///{tmp_path / 'run/study.db'}", study_name="search")
    assert len(stored.trials) == 4
