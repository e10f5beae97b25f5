"""Who comes after others: a client whose pictures take long is answered while nobody else has to wait."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.queueing import Event
from starlette.requests import Request

from demo.fair_use import (
    CALM_SECONDS,
    HEAVY_SECONDS,
    MOST_OWED,
    PAID_PER_SECOND,
    WAITED_SECONDS,
    Turns,
    Visitor,
    visitor,
)
from demo.handlers import Handlers
from demo.queue import FairQueue
from demo.serving import find_model
from demo.settings import ModelChoice
from tests.support.slow_model import CONCURRENCY, FORM, SlowModel, until
from tests.support.tiny_model import save_tiny_model


HEAVY, LIGHT = "203.0.113.1", "198.51.100.1"
WAITED = 2 * WAITED_SECONDS


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    """Those of the whole demo, in which nobody has asked yet."""
    turns = Turns(clock)
    for module in ("desk", "handlers", "queue"):
        monkeypatch.setattr(f"demo.{module}.TURNS", turns)
    return turns


def test_a_client_that_owes_much_may_begin_only_while_nobody_else_waits(turns: Turns, clock: Clock):
    turns.spend(HEAVY, HEAVY_SECONDS + 1)
    assert turns.may_begin(HEAVY)
    turns.note_wait(LIGHT, WAITED)
    assert (turns.may_begin(HEAVY), turns.may_begin(LIGHT)) == (False, True)
    clock.now += CALM_SECONDS
    assert turns.may_begin(HEAVY)


def test_nobody_waits_who_comes_after_others_or_is_answered_at_once(turns: Turns):
    turns.spend(HEAVY, HEAVY_SECONDS + 1)
    turns.note_wait(HEAVY, WAITED)
    turns.note_wait(LIGHT, WAITED_SECONDS / 2)
    assert turns.may_begin(HEAVY)


def test_a_debt_is_paid_by_time_however_large_one_picture_was(turns: Turns, clock: Clock):
    """In the long run a client takes no more than `PAID_PER_SECOND` from others that wait."""
    turns.spend(HEAVY, 60.0)
    clock.now += 60.0
    assert turns.comes_after_others(HEAVY)
    clock.now += (60.0 - HEAVY_SECONDS) / PAID_PER_SECOND - 59.0
    assert not turns.comes_after_others(HEAVY)


def test_a_debt_does_not_grow_for_ever(turns: Turns, clock: Clock):
    for _ in range(1000):
        turns.spend(HEAVY, 1.0)
    clock.now += MOST_OWED / PAID_PER_SECOND
    assert turns.owed_seconds(HEAVY) == 0


def test_clients_that_owe_nothing_are_forgotten(turns: Turns, clock: Clock):
    for number in range(100):
        turns.spend(f"198.51.100.{number}", 1.0)
    clock.now += 1.0 / PAID_PER_SECOND + 1
    for _ in range(1000):
        turns.spend(HEAVY, 1.0)
    assert turns.known_clients == 1


def test_a_prediction_counts_against_who_asked(turns: Turns, tmp_path_factory: pytest.TempPathFactory):
    """Of any picture, since many faces take as long as many pixels."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder)
    handlers = Handlers([find_model(ModelChoice("tiny", str(folder)))], concurrency=1)
    token = visitor.set(Visitor(HEAVY))
    try:
        handlers.predict(np.zeros((3000, 4000, 3), np.uint8), True, None, None)
    finally:
        visitor.reset(token)
    assert turns.owed_seconds(HEAVY) > 0
    assert turns.owed_seconds(LIGHT) == 0


def line(*clients: str) -> FairQueue:
    """A queue in which they wait, each with one picture, and which runs two at a time. To be made in a running loop."""
    with gr.Blocks() as page:
        gr.Button().click(lambda: None, concurrency_id="model", concurrency_limit=2)
    [function] = page.fns.values()
    queue = FairQueue(max_size=50, live_updates=False, concurrency_count=40, update_intervals=1, blocks=page)
    queue.create_event_queue_for_fn(function)
    for client in clients:
        request = Request({"type": "http", "client": (client, 1), "headers": []})
        queue.event_queue_per_concurrency_id["model"].queue.append(Event(None, function, request, None))
    return queue


def next_client(queue: FairQueue) -> str | None:
    found = queue.get_events()
    return found[0][0].request.client.host if found else None


def test_the_queue_takes_others_first(turns: Turns):
    async def run() -> None:
        turns.spend(HEAVY, HEAVY_SECONDS + 1)
        queue = line(HEAVY, LIGHT, "198.51.100.2")
        assert [next_client(queue) for _ in range(3)] == [LIGHT, "198.51.100.2", HEAVY]  # all at once: nobody waited

    asyncio.run(run())


def test_the_queue_takes_a_client_that_owes_much_when_nobody_has_waited_for_a_while(turns: Turns, clock: Clock):
    async def run() -> None:
        turns.spend(HEAVY, HEAVY_SECONDS + 2 * CALM_SECONDS * PAID_PER_SECOND)
        queue = line(HEAVY, LIGHT)
        for event in queue.event_queue_per_concurrency_id["model"].queue:
            event.enqueue_time -= WAITED
        assert (next_client(queue), next_client(queue)) == (LIGHT, None)
        clock.now += CALM_SECONDS
        assert next_client(queue) == HEAVY

    asyncio.run(run())


def test_the_desk_answers_others_first(tmp_path: Path, turns: Turns, clock: Clock):
    async def ask() -> None:
        model = SlowModel(tmp_path)
        turns.spend(HEAVY, 1e6)
        lights = [model.client(f"198.51.100.{number}") for number in range(CONCURRENCY + 2)]
        running = [asyncio.create_task(light.post("/", **FORM)) for light in lights[:CONCURRENCY]]
        await until(lambda: model.running == CONCURRENCY)
        turns.note_wait(LIGHT, WAITED)
        heavy = asyncio.create_task(model.client(HEAVY).post("/", **FORM))
        waiting = [asyncio.create_task(light.post("/", **FORM)) for light in lights[CONCURRENCY:]]
        await until(lambda: model.desk._taken.total() == CONCURRENCY + 3)
        model.may_answer.set()
        answers = await asyncio.gather(*running, *waiting)
        assert {answer.status_code for answer in answers} == {200}
        assert model.running == len(lights)
        assert not heavy.done()
        clock.now += CALM_SECONDS
        assert (await heavy).status_code == 200

    asyncio.run(ask())
