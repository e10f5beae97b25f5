"""The server's C library keeps few heaps, so that what visitors' pictures took is given back."""

import platform
import subprocess
import sys

import pytest


ALLOCATE_IN_MANY_THREADS = """
import ctypes, sys, threading
from demo.memory import keep_few_heaps

assert keep_few_heaps()
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives every thread a heap of its own")
def test_many_threads_share_few_heaps():
    done = subprocess.run([sys.executable, "-c", ALLOCATE_IN_MANY_THREADS], capture_output=True, text=True, check=True)
    assert 1 <= done.stdout.count("<heap nr=") <= 2
