"""glibc malloc: a server returns the memory of its pictures, a training keeps the memory of its tensors."""

import platform
import subprocess
import sys

import pytest


ALLOCATE_IN_MANY_THREADS = """
import ctypes, sys, threading
from app import limit_malloc_arenas

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


COMPUTE_AGAIN_AND_AGAIN = """
import resource, sys, torch
from trainer.devices import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def step():
    kept = [torch.ones(mib * 2**18) for mib in (1, 8, 64)]

for _ in range(10): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's malloc what to do")


def run(code: str, *args: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True).stdout


@needs_glibc
def test_many_threads_share_few_arenas():
    assert 1 <= run(ALLOCATE_IN_MANY_THREADS).count("<heap nr=") <= 2


@needs_glibc
def test_freed_tensors_cause_no_new_page_faults():
    assert int(run(COMPUTE_AGAIN_AND_AGAIN, "give back")) > 1000
    assert int(run(COMPUTE_AGAIN_AND_AGAIN, "keep")) < 100
