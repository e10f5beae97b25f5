"""glibc's malloc: the demo gives freed memory back to the system, also where blocks that are in use lie above it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's malloc what to do")
ALLOCATE_IN_MANY_THREADS = """
import ctypes, sys, threading
from demo.freed_memory import limit_malloc_arenas

assert limit_malloc_arenas()
together = threading.Barrier(16)

def hold_memory():
    together.wait()
    kept = [bytes(100_000) for _ in range(20)]
    together.wait()

threads = [threading.Thread(target=hold_memory) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
FREE_BELOW_A_BLOCK_IN_USE = """
import sys
import time
from demo.freed_memory import limit_malloc_arenas, return_freed_memory

def resident_mib():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * 4096 / 2**20

limit_malloc_arenas()
blocks = [bytearray(100_000) for _ in range(2_000)]  # too small for pages of their own
del blocks[:-1]
before = resident_mib()
if "return" in sys.argv:
    return_freed_memory(0.05)
time.sleep(1)
print(before - resident_mib())
"""


def run(code: str, *args: str) -> str:
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@needs_glibc
def test_many_threads_share_few_arenas():
    assert 1 <= run(ALLOCATE_IN_MANY_THREADS).count("<heap nr=") <= 2


@needs_glibc
def test_freed_memory_goes_back_to_the_system():
    assert float(run(FREE_BELOW_A_BLOCK_IN_USE, "keep")) < 10
    assert float(run(FREE_BELOW_A_BLOCK_IN_USE, "return")) > 150
