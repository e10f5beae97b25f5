"""Electrical energy that the machine's processors and GPUs took during a run, where the system lets it be read."""

import os
import subprocess
import threading
import time
from pathlib import Path


POWERCAP = Path("/sys/class/powercap")
SECONDS_BETWEEN_READINGS = 10.0  # a processor's counter starts over after some minutes of full load at the earliest


class EnergyMeter:
    """`meter = EnergyMeter()`, and after the work `meter.read()`.

    Processors count their energy themselves (Intel's and AMD's RAPL), which Linux shows to root, or to whom the
    administrator lets read it. Of NVIDIA GPUs the power is read every few seconds. All of the machine's are counted, other
    programs' work included. Of several processes the first one goes on reading: only its totals are recorded.
    """

    def __init__(self, powercap: Path = POWERCAP, seconds_between_readings: float = SECONDS_BETWEEN_READINGS):
        self._packages = {}  # the counter's file -> its last reading and the one after which it starts over, microjoules
        for domain in sorted(powercap.glob("*-rapl:[0-9]")):  # one a socket; intel-rapl:0:0 is a part of intel-rapl:0
            try:
                top = int((domain / "max_energy_range_uj").read_text())
                self._packages[domain / "energy_uj"] = (int((domain / "energy_uj").read_text()), top)
            except OSError:
                continue
        self._cpu_joules = self._gpu_joules = 0.0
        self._has_gpus = gpu_watts() is not None
        self._gpus_read_at = time.monotonic()
        self._interval = seconds_between_readings
        self._reading = threading.Lock()
        if (self._packages or self._has_gpus) and os.environ.get("RANK", "0") == "0":
            threading.Thread(target=self._watch, daemon=True).start()

    def read(self) -> dict[str, int | None]:
        """`cpu_joules` and `gpu_joules` since the meter was made, each None where it cannot be read."""
        with self._reading:
            self._read_all()
            return {
                "cpu_joules": round(self._cpu_joules) if self._packages else None,
                "gpu_joules": round(self._gpu_joules) if self._has_gpus else None,
            }

    def _watch(self) -> None:
        while True:
            time.sleep(self._interval)
            with self._reading:
                self._read_all()

    def _read_all(self) -> None:
        watts, now = gpu_watts() if self._has_gpus else None, time.monotonic()
        if watts is not None:  # else the next reading stands for this time too
            self._gpu_joules += watts * (now - self._gpus_read_at)
            self._gpus_read_at = now
        for file, (last, top) in self._packages.items():
            reading = int(file.read_text())
            self._cpu_joules += (reading - last) % (top + 1) / 1e6
            self._packages[file] = (reading, top)


def gpu_watts() -> float | None:
    """What all NVIDIA GPUs draw now; None where nvidia-smi does not say."""
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return sum(map(float, done.stdout.split()))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
