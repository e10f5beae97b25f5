"""OpenCV's threads and the processes that `Dataset.map` forks do not go together."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def forkable_opencv(num_proc: int | None) -> Iterator[None]:
    """Around a `Dataset.map` with this `num_proc` whose function uses OpenCV.

    A forked process has none of its parent's threads: told to end them there, OpenCV waits forever. So it is told so
    before; one thread each is how processes share the cores best. Without `num_proc` nothing is forked or changed.
    """
    threads = cv2.getNumThreads()
    if num_proc:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        if num_proc:
            cv2.setNumThreads(threads)
