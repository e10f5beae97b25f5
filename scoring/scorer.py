"""Prepare items in threads ahead of whoever uses them, in their order and within a bound."""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import cv2
import torch
from transformers import BaseImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline, PreparedFaces
from model_card.requirements import sha256
from scoring.sources import Content, Entry
from trainer.devices import keep_freed_memory, usable_cores


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


@dataclass(frozen=True)
class Picture:
    """An entry that was read: its place in the input, and its content or the problem with it."""

    index: int
    name: str
    seconds: float | None
    content: Content | None
    problem: str | None = None


@dataclass(frozen=True)
class Scored:
    """The pipeline's answer for each face of one picture, or why there is none."""

    index: int
    name: str
    seconds: float | None = None
    faces: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True)
class _Prepared:
    picture: Picture  # without its content
    found: PreparedFaces | None = None  # without its crops

    @property
    def weight(self) -> int:
        return max(len(self.found.faces), 1) if self.found else 1


class Scorer:
    """Answers as `AgeGenderPipeline` does, for any number of pictures.

    In the whole process, OpenCV has one thread a picture from then on and, on a CPU, freed memory is kept.

    Args:
        onnx_file: of the model, as `AgeGenderPipeline` takes it.
        batch_size: faces that go through the model together, of however many pictures.
        workers: threads that decode and detect; unless given, as many as there are cores for each process here.
        options: of the pipeline's call: detect, detector, min_score, age_ranges.
    """

    def __init__(
        self,
        model: AgeGenderModel,
        image_processor: BaseImageProcessor,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        onnx_file: str | None = None,
        batch_size: int = 64,
        workers: int | None = None,
        **options: Any,
    ):
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.batch_size, self.workers = batch_size, workers or max(1, usable_cores() // processes)
        options |= {"model": model, "image_processor": image_processor, "device": device, "revision": revision}
        self._pipe = AgeGenderPipeline(onnx_file=onnx_file, **options)
        # One pipeline a thread: a detector is locked while it looks at a picture. They share the model.
        pipes = [self._pipe, *(AgeGenderPipeline(**options) for _ in range(self.workers - 1))]
        self._idle: queue.SimpleQueue[AgeGenderPipeline] = queue.SimpleQueue()
        for pipe in pipes:
            self._idle.put(pipe)
        cv2.setNumThreads(1)  # pictures are shared among the workers, not each picture among OpenCV's own threads
        if torch.device(device).type == "cpu":
            keep_freed_memory()

    @property
    def onnx_sha256(self) -> str | None:
        """Of the file that computes, if there is one."""
        return self._pipe.onnx_model and sha256(self._pipe.onnx_model.path)

    @property
    def age_ranges(self) -> list[list[int]]:
        """What the answers are given in: the option's ranges, else the model's own."""
        return self._pipe.age_ranges

    def score(self, pictures: Iterable[Picture]) -> Iterator[Scored]:
        """One `Scored` a picture, in order. A picture that cannot be used never ends it."""
        ahead = Prefetcher(
            pictures, self._prepare, lambda found: found.weight, workers=self.workers, limit=2 * self.batch_size
        )
        batch: list[_Prepared] = []
        for found in ahead:
            batch.append(found)
            if sum(item.weight for item in batch) >= self.batch_size:
                yield from self._answer(batch)
                ahead.release(sum(item.weight for item in batch))
                batch = []
        yield from self._answer(batch)

    def _prepare(self, picture: Picture) -> _Prepared:
        named = replace(picture, content=None)
        if picture.problem:
            return _Prepared(named)
        pipe = self._idle.get()
        try:
            found = pipe.prepare(picture.content)
            return _Prepared(
                named, replace(found, crops=[])
            )  # the model reads the pixel values: crops only take memory
        except Exception as error:  # decoders raise many types on what they were never tested on: its row says which
            return _Prepared(replace(named, problem=explain(error)))
        finally:
            self._idle.put(pipe)

    def _answer(self, batch: list[_Prepared]) -> Iterator[Scored]:
        found = [item.found for item in batch if item.found]
        answers = iter(self._pipe.answer(found, faces_per_forward=self.batch_size))
        for item in batch:
            picture, faces = item.picture, next(answers) if item.found else []
            yield Scored(picture.index, picture.name, picture.seconds, faces, picture.problem)


def read_entries(entries: Iterable[Entry], wanted: Callable[[int], bool] = lambda index: True) -> Iterator[Picture]:
    """Read the entries whose place in the input is wanted; the others are only counted."""
    for index, entry in enumerate(entries):
        if wanted(index):
            content = problem = None
            try:
                content = entry.read()
            except Exception as error:  # as in `_prepare`
                problem = explain(error)
            yield Picture(index, entry.name, entry.seconds, content, problem)


def explain(error: Exception) -> str:
    """What a row says of a picture; errors made for people speak for themselves."""
    return str(error) if isinstance(error, (ValueError, OSError)) and str(error) else f"{type(error).__name__}: {error}"
