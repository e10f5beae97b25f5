"""The pipeline's answers for any number of pictures: threads prepare them ahead of the model, which takes many faces at once."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
from transformers import BaseImageProcessor

from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from model.prepared_faces import PreparedFaces
from model_card.requirements import sha256
from scoring.sources import Content, Entry
from scoring.storage import StoreFaultError
from trainer.devices import usable_cores


Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
# Prepared faces that may wait, at least: threads prepare them while the answers of a batch are made into rows.
FACES_AHEAD = 128
_END = object()


@dataclass(frozen=True)
class Picture:
    """An entry that was read. `index`: its place in the input, from 0. `problem`: why there is no content."""

    index: int
    name: str
    seconds: float | None
    content: Content | None
    problem: str | None = None


@dataclass(frozen=True)
class Scored:
    """The pipeline's answer for each face of one picture, or the problem with the picture."""

    index: int
    name: str
    seconds: float | None = None
    faces: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True)
class PreparedPicture:
    """What `Scorer.prepare` makes of a picture.

    picture: without its content.
    faces: without their crops; None where there is a problem.
    """

    picture: Picture
    faces: PreparedFaces | None = None

    @property
    def weight(self) -> int:
        return max(len(self.faces.faces), 1) if self.faces else 1


def read_entries(entries: Iterable[Entry], wanted: Callable[[int], bool] = lambda index: True) -> Iterator[Picture]:
    """Read the entries whose index is wanted; the others are only counted.

    Raises:
        StoreFaultError: a store fails: that is no problem of a picture.
    """
    for index, entry in enumerate(entries):
        if wanted(index):
            content = problem = None
            try:
                content = entry.read()
            except StoreFaultError:
                raise
            except Exception as error:  # files are damaged in more ways than their readers' documented errors
                problem = explain(error)
            yield Picture(index, entry.name, entry.seconds, content, problem)


def explain(error: Exception) -> str:
    """What a row says of a picture. The type is named where the message alone may not be clear."""
    return str(error) if isinstance(error, (ValueError, OSError)) and str(error) else f"{type(error).__name__}: {error}"


class Scorer:
    """Scores any number of pictures, with the answers of `AgeGenderPipeline`.

    Args:
        revision, onnx_file: as `AgeGenderPipeline` takes them.
        batch_size: faces that go through the model together, from any number of pictures.
        workers: threads that decode and detect; by default one for each core.
        options: of the pipeline's call: detect, detector, min_score, age_ranges.

    Raises:
        AgeGenderError: an option or a file of the model cannot be used.
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
        self.batch_size, self.workers = batch_size, workers or usable_cores()
        options |= {"model": model, "image_processor": image_processor, "device": device, "revision": revision}
        self._pipe = AgeGenderPipeline(onnx_file=onnx_file, **options)
        # One pipeline a thread, since a detector takes one picture at a time. They share the model.
        self._idle: queue.SimpleQueue[AgeGenderPipeline] = queue.SimpleQueue()
        for pipe in (self._pipe, *(AgeGenderPipeline(**options) for _ in range(self.workers - 1))):
            self._idle.put(pipe)

    @property
    def onnx_sha256(self) -> str | None:
        """Hash of the ONNX file that computes, if one does."""
        return sha256(self._pipe.onnx_model.path) if self._pipe.onnx_model else None

    @property
    def age_ranges(self) -> list[list[int]]:
        """The ranges of the answers: those of the options, else the model's own."""
        return self._pipe.age_ranges

    def score(self, pictures: Iterable[Picture]) -> Iterator[Scored]:
        """One `Scored` a picture, in order. A picture that cannot be used has a problem and does not end it."""
        limit = max(2 * self.batch_size, FACES_AHEAD)
        prepared = Prefetcher(pictures, self.prepare, lambda item: item.weight, workers=self.workers, limit=limit)
        batch: list[PreparedPicture] = []
        for item in prepared:
            batch.append(item)
            weight = sum(item.weight for item in batch)
            if weight >= self.batch_size:
                yield from self.answer(batch)
                prepared.release(weight)
                batch = []
        yield from self.answer(batch)

    def prepare(self, picture: Picture) -> PreparedPicture:
        """Decode a picture and find its faces. Threads may call it at the same time."""
        named = replace(picture, content=None)
        if picture.problem:
            return PreparedPicture(named)
        pipe = self._idle.get()
        try:
            faces = pipe.prepare(picture.content)
            # The model reads the pixel values: the crops would only take memory.
            return PreparedPicture(named, replace(faces, crops=[]))
        except Exception as error:  # decoders raise many types on damaged pictures
            return PreparedPicture(replace(named, problem=explain(error)))
        finally:
            self._idle.put(pipe)

    def answer(self, batch: Sequence[PreparedPicture]) -> Iterator[Scored]:
        """Run the model on the faces of a batch, `batch_size` at a time: one `Scored` a picture, in order."""
        faces = [item.faces for item in batch if item.faces]
        answers = iter(self._pipe.answer(faces, faces_per_forward=self.batch_size))
        for item in batch:
            picture = item.picture
            answer = next(answers) if item.faces else []
            yield Scored(picture.index, picture.name, picture.seconds, answer, picture.problem)


class Prefetcher(Generic[Item, Prepared]):
    """Yields `prepare(item)` for each item, in order; threads prepare the next ones meanwhile.

    Threads, because decoders, OpenCV and torch release the interpreter's lock, and processes would copy each picture.

    Args:
        weigh: the weight of a prepared item. It counts until the caller passes it to `release`.
        workers: number of threads.
        limit: no item is taken while prepared items of this weight wait or are in use. With the `workers` + 2 items in
            preparation this bounds the memory.
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
        self._changed = threading.Condition()  # guards the next three
        self._in_preparation, self._prepared_weight, self._stopped = 0, 0, False
        self._results: queue.SimpleQueue[Future[Prepared] | BaseException | object] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Prepared]:
        with ThreadPoolExecutor(self._workers, "prepare") as pool:
            feeder = threading.Thread(target=self._feed, args=(pool,), name="feed")
            feeder.start()
            try:
                while (result := self._results.get()) is not _END:
                    if isinstance(result, BaseException):
                        raise result
                    assert isinstance(result, Future)
                    yield result.result()
            finally:
                with self._changed:
                    self._stopped = True
                    self._changed.notify_all()
                feeder.join()
                pool.shutdown(cancel_futures=True)

    def release(self, weight: int) -> None:
        """The caller no longer uses prepared items of this weight."""
        with self._changed:
            self._prepared_weight -= weight
            self._changed.notify_all()

    def _feed(self, pool: ThreadPoolExecutor) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._has_room())
                    if self._stopped:
                        return
                    self._in_preparation += 1
                self._results.put(pool.submit(self._work, item))
            self._results.put(_END)
        except BaseException as error:  # the iterating thread raises it
            self._results.put(error)

    def _has_room(self) -> bool:
        return self._in_preparation < self._workers + 2 and self._prepared_weight < self._limit

    def _work(self, item: Item) -> Prepared:
        weight = 0
        try:
            prepared = self._prepare(item)
            weight = self._weigh(prepared)
            return prepared
        finally:
            with self._changed:
                self._in_preparation -= 1
                self._prepared_weight += weight
                self._changed.notify_all()
