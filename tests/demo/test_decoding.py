"""Decoding in processes of their own: the same arrays, within the time and memory of one picture, for who still waits."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import psutil
import pytest

import demo.decoding
from demo.decoding import Decoders
from demo.decoding_process import NICER
from demo.fair_use import BusyError, TooCostlyError, TooOftenError, Visitor, visitor
from demo.memory import PixelBudget
from model.image_decoding import PictureError, decode
from scripts.benchmarks.measuring import meanwhile
from tests.support.hostile_pictures import HOSTILE, png_bomb
from tests.support.odd_pictures import encoded


SLOW = png_bomb(7000)  # takes about a second


@pytest.fixture
def as_client(request: pytest.FixtureRequest) -> Iterator[None]:
    token = visitor.set(Visitor(request.node.name))
    yield
    visitor.reset(token)


@pytest.fixture(scope="module")
def decoders() -> Decoders:
    return Decoders(PixelBudget(), seconds=60, seconds_per_minute=1e9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_pictures_are_those_that_the_model_decodes(decoders: Decoders, kind: str):
    data = encoded(kind)
    np.testing.assert_array_equal(decoders.decode(data, "a"), decode(data, "a"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", r"a name is empty \(0 bytes\)"),
        (b"no picture", "a name is none of these"),
        (encoded("JPEG")[:5000], "a name is damaged"),
        (HOSTILE["TIFF whose tags share 10 MB"](), "a name"),
    ],
    ids=["empty", "text", "truncated", "shared tags"],
)
def test_what_is_refused_is_told_in_the_models_words(decoders: Decoders, data: bytes, expected: str):
    with pytest.raises(PictureError, match=expected):
        decoders.decode(data, "a name")
    assert decoders.decode(encoded("JPEG"), "a").shape == (512, 512, 3)


def test_a_picture_ends_at_its_deadline():
    decoders = Decoders(PixelBudget(), seconds=0.01)
    with pytest.raises(TooCostlyError, match=r"a\.png could not be decoded: it takes too long"):
        decoders.decode(SLOW, "a.png")


def test_a_picture_ends_when_its_visitor_leaves_and_its_place_is_free_again(decoders: Decoders):
    looks = iter([False] * 3)  # until the visitor has left
    token = visitor.set(Visitor("client", lambda: next(looks, True)))
    try:
        with pytest.raises((BusyError, PictureError), match=r"busy|nobody waits"):
            decoders.decode(SLOW, "a.png")
    finally:
        visitor.reset(token)
    assert decoders.decode(encoded("JPEG"), "a").shape == (512, 512, 3)


def test_a_client_has_so_many_seconds_a_minute(as_client: None):
    decoders = Decoders(PixelBudget(), seconds=60, seconds_per_minute=1e-6)
    assert decoders.decode(encoded("JPEG"), "a").shape == (512, 512, 3)
    with pytest.raises(TooOftenError, match=r"take long to decode. Try again in \d+ seconds"):
        decoders.decode(encoded("JPEG"), "a")


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_a_client_whose_pictures_take_long_comes_after_others(as_client: None, monkeypatch: pytest.MonkeyPatch):
    """The next picture has the usual priority again: a process could not raise its own."""
    decoders = Decoders(PixelBudget(), seconds=600, seconds_per_minute=1e9)
    data, seen = png_bomb(2000), []
    monkeypatch.setattr("demo.decoding.HEAVY_SECONDS", 1e9)

    def look() -> None:
        for thread in process.threads():
            with suppress(ProcessLookupError):  # it ended meanwhile
                seen.append(os.getpriority(os.PRIO_PROCESS, thread.id))

    def decode() -> tuple[np.ndarray, set[int]]:
        """With the priorities of the threads that decoded it."""
        seen.clear()
        with meanwhile(look, pause_seconds=0.005):
            return decoders.decode(data, "a"), set(seen)

    before = psutil.Process().children()
    decoders.start()
    [process] = set(psutil.Process().children()) - set(before)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    expected, priorities = decode()
    assert priorities == {usual}
    monkeypatch.setattr("demo.decoding.HEAVY_SECONDS", 0.0)
    slow, priorities = decode()
    assert priorities == {usual, min(usual + NICER, 19)}
    np.testing.assert_array_equal(slow, expected)
    monkeypatch.setattr("demo.decoding.HEAVY_SECONDS", 1e9)
    assert decode()[1] == {usual}


def test_a_refusal_as_too_costly_makes_a_client_come_after_others(as_client: None, monkeypatch: pytest.MonkeyPatch):
    decoders = Decoders(PixelBudget(), seconds=0.01, seconds_per_minute=1e9)
    with pytest.raises(TooCostlyError):
        decoders.decode(SLOW, "a.png")
    assert decoders._meter.wait_seconds(visitor.get().key, time.monotonic(), demo.decoding.HEAVY_SECONDS) is not None


def test_large_pictures_wait_until_an_earlier_one_is_freed(decoders: Decoders, monkeypatch: pytest.MonkeyPatch):
    decoders, data = Decoders(PixelBudget(10_000_000), seconds=60), png_bomb(2500)
    monkeypatch.setattr("demo.memory.WAIT_SECONDS", 1)
    first = decoders.decode(data, "a")
    with pytest.raises(BusyError):
        decoders.decode(data, "b")
    del first
    gc.collect()
    monkeypatch.undo()
    assert decoders.decode(data, "b").shape == (2500, 2500, 3)
