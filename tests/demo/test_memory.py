"""The demo gives freed memory back to the system, also where blocks that are in use lie above it, and bounds its sessions."""

import asyncio
import platform
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import StateHolder

from demo.memory import forget_sessions, weigh_session


ROOT = Path(__file__).resolve().parents[2]
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's malloc what to do")
ALLOCATE_IN_MANY_THREADS = """
import ctypes, sys, threading
from demo.memory import limit_malloc_arenas

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
from demo.memory import limit_malloc_arenas, return_freed_memory

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

HELD_AT_THE_START = """
import gc
from demo.memory import exempt_from_collections

held = [[] for _ in range(200_000)]
exempt_from_collections()
print(len(gc.get_objects()))
later = [[]]
later.append(later)
del later
print(gc.collect())
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


def test_what_is_held_from_the_start_is_not_looked_at_for_garbage():
    looked_at, collected = run(HELD_AT_THE_START).split()
    assert int(looked_at) < 10_000
    assert int(collected) >= 1


def blocks_with_sessions(*sizes: int) -> gr.Blocks:
    """Sessions of so many bytes, the first one used first."""

    async def make() -> gr.Blocks:  # without a running loop Gradio opens one that it never closes
        return gr.Blocks()

    blocks = asyncio.run(make())
    held = StateHolder()
    held.set_blocks(blocks)
    blocks.app = SimpleNamespace(state_holder=held)
    for number, size in enumerate(sizes):
        state = held[str(number)]
        state.state_data[1] = bytes(size)
        weigh_session(state)
    return blocks


def test_sessions_together_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("demo.memory.SESSION_BYTES", 100_000)
    blocks = blocks_with_sessions(40_000, 30_000, 40_000, 10_000)
    forget_sessions(blocks)
    sessions = blocks.app.state_holder.session_data
    assert list(sessions) == ["1", "2", "3"]
    forget_sessions(blocks)
    assert list(sessions) == ["1", "2", "3"]  # all together are small enough
    state = sessions["1"]  # is used again, and has grown
    state.state_data[1] = bytes(60_000)
    weigh_session(state)
    forget_sessions(blocks)
    assert list(sessions) == ["1", "3"]


def test_sessions_are_kept_for_so_long(monkeypatch: pytest.MonkeyPatch):
    blocks, now = blocks_with_sessions(10, 10), time.monotonic()
    for seconds, kept in ((59, 2), (61, 0)):
        monkeypatch.setattr("demo.memory.time.monotonic", lambda seconds=seconds: now + seconds)
        forget_sessions(blocks, keep_seconds=60)
        assert len(blocks.app.state_holder.session_data) == kept
