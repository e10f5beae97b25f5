"""Two machines simulated on one: network namespaces joined by a virtual Ethernet cable, which share only the disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import pytest

from tests.support.training_runs import launch


IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin")
CABLE = "cable"  # what each machine calls its end
ADDRESSES = ("10.99.0.1", "10.99.0.2")


@contextmanager
def two_machines() -> Iterator[list[str]]:
    """Create the namespaces, yield their names, and delete them. Skips the test where that is not allowed."""
    if IP is None:
        pytest.skip("needs ip: apt-get install iproute2")
    names = [f"machine{rank}-{uuid4().hex[:8]}" for rank in range(2)]
    try:
        for name in names:
            made = subprocess.run([IP, "netns", "add", name], capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"needs to make network namespaces, as root can: {made.stderr.strip()}")
        ends = ["netns", names[0], "type", "veth", "peer", "name", CABLE, "netns", names[1]]
        subprocess.run([IP, "link", "add", CABLE, *ends], check=True)
        for name, address in zip(names, ADDRESSES, strict=True):
            subprocess.run([IP, "-n", name, "address", "add", f"{address}/24", "dev", CABLE], check=True)
            for device in ("lo", CABLE):
                subprocess.run([IP, "-n", name, "link", "set", device, "up"], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run([IP, "netns", "delete", name], capture_output=True)


def on_machine(name: str, command: Sequence[str]) -> list[str]:
    # names the network device: without a name server, a machine cannot look up its own address
    return [IP, "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={CABLE}", *command]


def launch_on_machine(rank: int) -> tuple[str, ...]:
    """The launcher of one process on the machine of this rank, by trainer/accelerate/multi_machine.yaml."""
    *launcher, module = launch("multi_machine")
    of_machine = ("--num_processes", "2", "--machine_rank", str(rank), "--main_process_ip", ADDRESSES[0])
    return (*launcher, *of_machine, module)
