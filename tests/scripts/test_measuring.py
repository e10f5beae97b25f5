"""Measurements of processes that end meanwhile, and beside other work."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from scripts.benchmarks.measuring import cpu_seconds_of_tree, meanwhile


@pytest.fixture
def child() -> Iterator[subprocess.Popen]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_that_ends_while_it_is_measured_is_left_out(child, monkeypatch):
    listed = psutil.Process.children

    def ended_once_listed(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
        found = listed(process, recursive)
        child.kill()
        child.wait()
        return found

    monkeypatch.setattr(psutil.Process, "children", ended_once_listed)
    assert cpu_seconds_of_tree() > 0


def test_processes_that_have_ended_are_counted_by_the_ones_that_waited_for_them():
    """Two levels down: the shell's own child waited for the process that worked."""
    script = f"({sys.executable} -c 'sum(range(20_000_000))'; echo done; read line); :"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["sh", "-c", script], **pipes) as shell:
        assert shell.stdout.readline() == b"done\n"
        assert cpu_seconds_of_tree(shell.pid) > 0.1
        shell.stdin.close()


def test_what_fails_meanwhile_is_an_error_of_the_block():
    failing = threading.Event()

    def fail() -> None:
        failing.set()
        raise LookupError

    with pytest.raises(LookupError), meanwhile(fail):
        assert failing.wait(30)
