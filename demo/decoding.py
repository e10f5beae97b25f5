"""Pictures are decoded in processes that can be killed: at a deadline, at a limit of memory, or when the visitor has left."""

import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import cast

import numpy as np

from demo.decoding_process import ANSWER, GO, PICTURE, READY, REFUSED, REQUEST, SHAPE, SIZE, SIZE_CONTENT, TOO_COSTLY
from demo.fair_use import HEAVY_SECONDS, TURNS, BusyError, MinuteMeter, TooCostlyError, TooOftenError, Turns, visitor
from demo.memory import WAIT_SECONDS, PixelBudget
from model.errors import PictureError


ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0  # of a process, on a busy machine
WATCH_SECONDS = 0.1  # between two looks at the clock and at the visitor
PICTURES_PER_PROCESS = 1000  # then a fresh one, in case a library loses memory


class Decoders:
    """Processes that are started when they are needed and used again.

    Args:
        budget: may be shared.
        seconds_per_minute: of one client; beyond that it is told to wait. From `HEAVY_SECONDS` on, or after a refusal as too
            costly, its pictures are decoded at low priority.
        turns: where the seconds are a client's debt too.
    """

    def __init__(
        self,
        budget: PixelBudget,
        count: int = 1,
        seconds: float = 5.0,
        seconds_per_minute: float = 30.0,
        turns: Turns | None = None,
    ):
        self._budget, self._meter, self.seconds_per_minute = budget, MinuteMeter(), seconds_per_minute
        self._turns = turns
        self.configure(count, seconds)

    def configure(self, count: int, seconds: float) -> None:
        """At most `count` processes; the longest time that one picture may take. To be called before the first picture."""
        self.seconds = seconds
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def decode(self, data: bytes, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB, as `model.image_decoding.decode` has it.

        Raises:
            PictureError: it is no picture, is damaged or too large. TooCostlyError: it takes too long or too much memory.
            TooOftenError: the client's pictures have taken long in the last minute. BusyError: there was no process for it
                in time.
        """
        asking = visitor.get()
        wait = self._meter.wait_seconds(asking.key, time.monotonic(), self.seconds_per_minute)
        if wait is not None:
            text = f"Your pictures take long to decode. Try again in {wait} seconds, or make them smaller."
            raise TooOftenError(text, wait)
        others_first = self._meter.wait_seconds(asking.key, time.monotonic(), HEAVY_SECONDS) is not None
        with self._process(asking.is_gone) as process:
            started = time.monotonic()
            try:
                return process.decode(_Request(data, name, self.seconds, others_first, self._budget, asking.is_gone))
            except TooCostlyError:
                self.spend(asking.key, HEAVY_SECONDS)
                raise
            finally:
                self.spend(asking.key, time.monotonic() - started)

    def spend(self, key: str, seconds: float) -> None:
        """Count seconds of decoding against what a client has in a minute."""
        self._meter.add(key, time.monotonic(), seconds)
        if self._turns:
            self._turns.spend(key, seconds)

    def start(self) -> None:
        """Start one process now, so that the first visitor need not wait."""
        with self._process(lambda: False):
            pass

    @contextmanager
    def _process(self, is_gone: Callable[[], bool]) -> "Iterator[_Process]":
        process = self._next_place(is_gone)
        if process is None or not process.is_usable:
            process = _Process()
        try:
            yield process
        finally:
            if not process.is_usable:
                process.kill()
                process = _Process()  # it starts while nobody waits for it
            self._idle.put(process)

    def _next_place(self, is_gone: Callable[[], bool]) -> "_Process | None":
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and not is_gone():
            with suppress(queue.Empty):
                return self._idle.get(timeout=2 * WATCH_SECONDS)
        raise BusyError


@dataclass(frozen=True)
class _Request:
    """A picture to decode within `seconds`; `others_first` at low priority."""

    data: bytes
    name: str
    seconds: float
    others_first: bool
    budget: PixelBudget
    is_gone: Callable[[], bool]


class _Process:
    """One `demo.decoding_process`, for one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo.decoding_process"],
            cwd=ROOT,
            # The C library hands back what is freed at once, and reserves little.
            env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._is_ready, self._left = False, PICTURES_PER_PROCESS
        self._killed: tuple[type[PictureError], str] | None = None  # what its picture is told, and why
        self.kill = weakref.finalize(self, _end, self._process)  # at the latest when the demo ends

    @property
    def is_usable(self) -> bool:
        return self._left > 0 and self._killed is None and self._process.poll() is None

    def decode(self, request: _Request) -> np.ndarray:
        """After an exception that does not come from the picture the process can be used no longer."""
        self._left -= 1
        is_usable = False
        try:
            answer = self._ask(request)
            is_usable = True
        except (EOFError, OSError):
            refusal, why = self._killed or (PictureError, "its file makes the reader fail")
            raise refusal(f"{request.name} could not be decoded: {why}. Save it as JPEG, or make it smaller.") from None
        finally:
            if not is_usable:
                self._left = 0
        if isinstance(answer, PictureError):
            raise answer
        return answer

    def _ask(self, request: _Request) -> np.ndarray | PictureError:
        """The picture, or its refusal."""
        data, name, is_gone = request.data, request.name.encode(errors="replace"), request.is_gone
        if not self._is_ready:
            with self._watched(START_SECONDS, is_gone):
                self._read_answer(READY)
            self._is_ready = True
        started = time.monotonic()
        with self._watched(request.seconds, is_gone):
            self._write(REQUEST.pack(len(data), len(name), request.others_first) + name, data)
            self._read_answer(SIZE)
            (pixels,) = SIZE_CONTENT.unpack(self._read(SIZE_CONTENT.size))
        seconds = request.seconds - (time.monotonic() - started)  # waiting for memory does not count
        with request.budget.place(pixels, is_gone) as keep_until_freed, self._watched(seconds, is_gone):
            self._write(GO)
            kind, length = self._read_answer(PICTURE, REFUSED, TOO_COSTLY)
            if kind != PICTURE:
                text = self._read(length).decode()
                return TooCostlyError(text) if kind == TOO_COSTLY else PictureError(text)
            height, width = SHAPE.unpack(self._read(SHAPE.size))
            image_rgb = np.empty((height, width, 3), np.uint8)
            self._read_into(image_rgb.reshape(-1).data)
            keep_until_freed(image_rgb)
            return image_rgb

    @contextmanager
    def _watched(self, seconds: float, is_gone: Callable[[], bool]) -> Iterator[None]:
        """Kill the process in the middle of the block when the time is over or the visitor has left: reading ends then."""
        ended, deadline = threading.Event(), time.monotonic() + seconds

        def watch() -> None:
            while not ended.wait(WATCH_SECONDS):
                if time.monotonic() > deadline:
                    self._killed = TooCostlyError, "it takes too long"
                elif is_gone():
                    self._killed = PictureError, "nobody waits for it"
                if self._killed:
                    self._process.kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _write(self, *parts: bytes) -> None:
        pipe = cast(BufferedWriter, self._process.stdin)
        for part in parts:
            pipe.write(part)
        pipe.flush()

    def _read_answer(self, *expected: bytes) -> tuple[bytes, int]:
        kind, length = ANSWER.unpack(self._read(ANSWER.size))
        if kind not in expected:
            raise EOFError
        return kind, length

    def _read(self, length: int) -> bytes:
        content = bytearray(length)
        self._read_into(memoryview(content))
        return bytes(content)

    def _read_into(self, place: memoryview) -> None:
        """Raises `EOFError` where the process has ended before."""
        pipe = cast(BufferedReader, self._process.stdout)
        while len(place):
            read = pipe.readinto(place)
            if not read:
                raise EOFError
            place = place[read:]


def _end(process: subprocess.Popen) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # unsent bytes
            if pipe is not None:
                pipe.close()
    process.wait()


# One budget for both. Webcams' frames have a process of their own, so that slow pictures do not stop them.
_budget = PixelBudget()
PICTURES, FRAMES = Decoders(_budget, turns=TURNS), Decoders(_budget)
