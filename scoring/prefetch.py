"""Prepare items in threads ahead of whoever uses them, in their order and within a bound."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar


Item, Prepared = TypeVar("Item"), TypeVar("Prepared")
_END = object()


class Prefetcher(Generic[Item, Prepared]):
    """Iterating gives `prepare(item)` for every item, in order. Threads and not processes: decoders, OpenCV and torch
    let go of the interpreter's lock, and pictures need not be copied from one process to another.

    Args:
        weigh: how much of `limit` one prepared item takes until `release` is called for it. No item is taken while
            that much is waiting, so that memory is bounded by `limit` and what `workers` + 2 items add to it.
    """

    def __init__(
        self,
        items: Iterable[Item],
        prepare: Callable[[Item], Prepared],
        weigh: Callable[[Prepared], int],
        *,
        workers: int,
        limit: int,
    ):
        self._items, self._prepare, self._weigh = items, prepare, weigh
        self._workers, self._limit = workers, limit
        self._changed = threading.Condition()
        self._in_hand, self._waiting, self._stopped = 0, 0, False
        self._results: queue.SimpleQueue[Future | BaseException | object] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Prepared]:
        with ThreadPoolExecutor(self._workers, "prepare") as pool:
            feeder = threading.Thread(target=self._feed, args=(pool,), name="feed")
            feeder.start()
            try:
                while (result := self._results.get()) is not _END:
                    if isinstance(result, BaseException):
                        raise result
                    yield result.result()
            finally:
                with self._changed:
                    self._stopped = True
                    self._changed.notify_all()
                feeder.join()
                pool.shutdown(cancel_futures=True)

    def release(self, weight: int) -> None:
        """Prepared items of this weight are done with."""
        with self._changed:
            self._waiting -= weight
            self._changed.notify_all()

    def _feed(self, pool: ThreadPoolExecutor) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._stopped or (self._in_hand < self._workers + 2 and self._waiting < self._limit)
                    )
                    if self._stopped:
                        return
                    self._in_hand += 1
                self._results.put(pool.submit(self._work, item))
            self._results.put(_END)
        except BaseException as error:  # raised again where the results are awaited
            self._results.put(error)

    def _work(self, item: Item) -> Prepared:
        weight = 0
        try:
            prepared = self._prepare(item)
            weight = self._weigh(prepared)
            return prepared
        finally:
            with self._changed:
                self._in_hand -= 1
                self._waiting += weight
                self._changed.notify_all()
