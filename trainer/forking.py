"""OpenCV's threads and the processes that `Dataset.map` forks do not go together."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def forkable_opencv(num_proc: int | None) -> Iterator[None]:
    """Around a `Dataset.map` with this `num_proc` whose function uses OpenCV.

    A forked child lacks its parent's threads, and OpenCV waits forever when their number is changed there. So it is set
    to 1 before the fork: processes share the cores best with one thread each. Without `num_proc` nothing is forked or
    changed.
    """
    threads = cv2.getNumThreads()
    if num_proc:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        if num_proc:
            cv2.setNumThreads(threads)
