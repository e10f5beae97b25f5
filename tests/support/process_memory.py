"""How much memory a process and those that it has started take together; Linux only."""

import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path


def tree_of(pid: int) -> list[int]:
    """The process and its descendants."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children[int((folder / "stat").read_text().rpartition(")")[2].split()[1])].append(int(folder.name))
    tree, waiting = [], [pid]
    while waiting:
        tree.append(waiting.pop())
        waiting += children[tree[-1]]
    return tree


def memory_mib(pid: int) -> float:
    """Resident memory of the process and its descendants; what they share is counted once for each."""
    pages = 0
    for process in tree_of(pid):
        with suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


class MemoryWatch:
    """`with MemoryWatch(pid) as watch:` notes the largest memory until the block ends."""

    def __init__(self, pid: int):
        self._pid, self._ended, self.peak_mib = pid, threading.Event(), 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.peak_mib = max(self.peak_mib, memory_mib(self._pid))
            time.sleep(0.05)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
