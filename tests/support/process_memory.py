"""How much memory a process and those that it has started take together; Linux only."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.benchmarks.measuring import meanwhile


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
    """`peak_mib`: the largest memory at which it has looked."""

    def __init__(self, pid: int):
        self._pid, self.peak_mib = pid, 0.0

    def look(self) -> None:
        self.peak_mib = max(self.peak_mib, memory_mib(self._pid))


@contextmanager
def watched_memory(pid: int) -> Iterator[MemoryWatch]:
    """Looks from the beginning to the end of the block."""
    watch = MemoryWatch(pid)
    with meanwhile(watch.look, pause_seconds=0.05):
        yield watch
