"""Memory that pictures leave behind goes back to the system. Without effect where the C library is not glibc."""

import ctypes
import threading


M_ARENA_MAX = -8  # mallopt's parameter in malloc.h
MALLOC_ARENAS = 2
TRIM_SECONDS = 5.0  # a trim takes up to 10 ms


def limit_malloc_arenas() -> bool:
    """Whether the C library took it; to be called before threads are started.

    glibc gives every thread an arena of its own, and each keeps what was freed in it. A fixed M_MMAP_THRESHOLD as well saves
    a little more, but makes pictures with many faces a third slower.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, MALLOC_ARENAS))
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return False


def return_freed_memory(every_seconds: float = TRIM_SECONDS) -> None:
    """Start a thread that does so regularly.

    By itself glibc returns only what lies above the last block in use: after some large pictures that can be 200 MiB less than
    is free. https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return

    def trim_regularly() -> None:
        never = threading.Event()
        while not never.wait(every_seconds):
            malloc_trim(0)

    threading.Thread(target=trim_regularly, daemon=True).start()
