"""The training benchmarks: both ways train for real, the clock says where their time goes, and loaders deliver."""

import pytest

from scripts.benchmarks.loader import delivered
from scripts.benchmarks.measuring import PHASES
from scripts.benchmarks.trainers import Arm, prepare
from scripts.benchmarks.training import measure


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    sets = prepare(None, 120, folder)
    assert list(sets) == [folder / "tenth", folder / "whole"]
    assert sets[folder / "whole"] > 8 * sets[folder / "tenth"]
    return folder / "whole"


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({"example": True, "bf16": False}, []),
        ({"cpu_time": True, "waits_for_gpu": False}, ["decode"]),  # all of it came before the first step
        ({"streaming": True, "growing": True, "cpu_time": True}, ["decode"]),  # the loader's: a part of the wait
    ],
)
def test_every_phase_is_timed(pictures, values, idle):
    arm = Arm("arm", pictures, "vit_tiny", image_size=32, batch_size=8, steps=2, workers=0, use_cpu=True, **values)
    result = measure(arm)
    assert [phase for phase in PHASES if result.milliseconds[phase] <= 0] == idle
    of_phases, in_all = sum(result.milliseconds.values()), 1000 / result.pictures_per_second
    assert of_phases < 1.01 * in_all
    if arm.cpu_time:  # the clock goes on while other programs have the processor, between phases too
        assert of_phases > 0.5 * in_all
    assert (result.decode_once > 0) == ("decode" in idle and not arm.streaming)
    assert result.peak_memory > 100


@pytest.mark.parametrize("example", [False, True])
def test_a_loader_delivers(pictures, example):
    shape = {"image_size": 32, "batch_size": 8, "steps": 4, "workers": 1}
    assert delivered(Arm("loader", pictures, "vit_tiny", **shape, use_cpu=True, example=example)) > 1
