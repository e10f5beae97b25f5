"""Keep a server's memory from growing with its traffic, where the C library is glibc."""

import ctypes


M_ARENA_MAX = -8  # mallopt's parameter in malloc.h
ARENAS = 2


def keep_few_heaps() -> bool:
    """Whether the C library took it; to be called before threads are started.

    glibc would give every thread a heap of its own, and what pictures leave behind in many heaps is freed but never
    handed back. A fixed M_MMAP_THRESHOLD as well would save some more, but makes pictures with many faces a third slower.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS))
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return False
