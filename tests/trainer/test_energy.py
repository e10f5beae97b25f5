"""Energy by the processors' counters and by nvidia-smi, each stood in for by files."""

import time

import pytest

from trainer.energy import EnergyMeter


def test_energy_is_read_from_the_processors_counters(tmp_path):
    """Two sockets, of which one counter starts over meanwhile; parts of a socket are not counted twice."""
    for name, microjoules in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "max_energy_range_uj").write_text("9999999")
        (tmp_path / name / "energy_uj").write_text(str(microjoules))
    meter = EnergyMeter(tmp_path, seconds_between_readings=60)
    (tmp_path / "intel-rapl:0/energy_uj").write_text("8000000")
    (tmp_path / "intel-rapl:1/energy_uj").write_text("1000000")
    assert meter.read()["cpu_joules"] == 3 + 2
    assert EnergyMeter(tmp_path / "none").read()["cpu_joules"] is None


def test_energy_of_gpus_is_their_power_times_the_time_that_passed(tmp_path, monkeypatch):
    """Counted up to the moment of reading, also in a run that ends before the first regular reading."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '250.00\\n150.00\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for seconds_between_readings in (60, 0.2):
        meter = EnergyMeter(tmp_path / "none", seconds_between_readings)
        start = time.monotonic()
        time.sleep(1)
        assert meter.read()["gpu_joules"] == pytest.approx(400 * (time.monotonic() - start), rel=0.2)
