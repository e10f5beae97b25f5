"""Keep a server's memory from growing with its traffic, where the C library is glibc."""

import ctypes


# mallopt's parameters in malloc.h
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
ARENAS = 2
LARGE_BYTES = 256 * 1024


def return_freed_memory() -> bool:
    """Whether the C library took it; to be called before threads are started.

    glibc would give every thread a heap of its own, and put pictures into these heaps: what they leave behind is freed
    but never handed back. With few heaps, and pictures outside of them, it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return False
    return bool(mallopt(M_ARENA_MAX, ARENAS) and mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
