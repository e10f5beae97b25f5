"""Keep the memory of freed tensors for the next ones, instead of giving it back to the system after every step."""

import ctypes


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt's parameters in malloc.h
NEVER = -1


def keep_freed_memory() -> None:
    """From here on this process keeps the memory that it frees; does nothing where the C library is not glibc.

    glibc gives large blocks back to the system when they are freed. A step on a CPU frees and asks for the same hundred
    MiB again, and the system clears every page of them anew. The process never shrinks any more: for programs that
    compute until they end, not for one that waits for visitors.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another system, or another C library
        return
    mallopt(M_TRIM_THRESHOLD, NEVER)
    mallopt(M_MMAP_MAX, 0)
