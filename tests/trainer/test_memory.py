"""glibc's malloc: a training keeps the memory of its tensors."""

import platform
import subprocess
import sys

import pytest


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
def test_freed_tensors_cause_no_new_page_faults():
    assert int(run(COMPUTE_AGAIN_AND_AGAIN, "give back")) > 1000
    assert int(run(COMPUTE_AGAIN_AND_AGAIN, "keep")) < 100
