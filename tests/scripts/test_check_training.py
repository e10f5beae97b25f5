"""`scripts.benchmarks.check_training`: the same training in one process, in two, and in one that is killed and resumed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.benchmarks.check_training import Curve, agree, format_table, main
from tests.support.made_up_faces import write_utkface_folder
from tests.support.warm_python import warm_python
from trainer.recipe import RecipeError


SMOKE = str(Path(__file__).parents[2] / "trainer/recipes/smoke.yaml")


@pytest.mark.slow
def test_the_three_agree(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.executable", warm_python())  # by which the command starts the trainings
    faces = write_utkface_folder(tmp_path / "faces", count=120, size=40)
    output_dir = tmp_path / "check"
    assert main([SMOKE, "--dataset", str(faces), "--output-dir", str(output_dir)]) == 0
    printed = capsys.readouterr().out
    assert "| | one process | 2 processes | killed and resumed |" in printed
    assert "Killed after step 7 of 10; resumes from checkpoint-5." in printed
    assert "Losses agree to 0.0001.\nWeights agree to 0.001." in printed
    assert (output_dir / "curves.md").read_text().strip() in printed
    with Image.open(output_dir / "curves.png") as picture:
        assert picture.width > 400


def test_a_difference_is_seen(capsys):
    weights = {"head": np.zeros(3)}
    losses = np.linspace(4, 3, 5)
    one, other = (
        Curve("one", losses, {}, weights),
        Curve("other", losses * [1, 1, 1.02, 1, 1], {}, {"head": np.ones(3)}),
    )
    assert other.difference(one) == pytest.approx(0.02)
    assert other.weight_difference(one) == 1
    assert Curve("short", losses[:4], {}, weights).difference(one) == float("inf")
    assert "| largest difference of a loss | | 2.0e-02 |" in format_table([one, other])
    assert agree([one, one], 1e-4)
    assert not agree([one, other], 0.05)  # by the weights
    assert "Losses agree to 0.05.\nWeights do NOT agree to 0.5." in capsys.readouterr().out
    assert not agree([one, other], 0.01)
    assert "Losses do NOT agree to 0.01." in capsys.readouterr().out


def test_a_batch_that_cannot_be_shared(tmp_path):
    with pytest.raises(RecipeError, match="A batch of 16 cannot be shared by 3 processes evenly"):
        main([SMOKE, "--processes", "3", "--output_dir", str(tmp_path / "check"), "--dataset", str(tmp_path)])
