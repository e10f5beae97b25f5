"""The queue of the API and of the webcams: who waits, who is next, and what becomes of answers that nobody fetches."""

import asyncio
import random
import time
from collections import Counter
from typing import Any

from gradio.queueing import Event, Queue
from gradio.server_messages import EventMessage, ProcessCompletedMessage
from gradio.utils import LRUCache

from demo.fair_use import BUSY, TURNS, client_key, most_running, most_waiting
from demo.memory import MAX_SESSIONS


LOOK_SECONDS = 0.005  # between two looks at who may run
UNFETCHED_SECONDS, MAX_UNFETCHED = 120.0, 200  # an answer that nobody fetches, and messages of one session


class FairQueue(Queue):
    """A queue in which at most `max_size` pictures wait, and as many webcams as may run at the same time.

    - Since 4.11 Gradio has one queue for each concurrency id, but `max_size` counts all of them together:
      https://github.com/gradio-app/gradio/pull/6814 and
      https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/queueing.py#L290. Since 5.0 a webcam holds its place for
      up to its time limit (https://github.com/gradio-app/gradio/pull/8941), so waiting webcams would keep every picture out.
    - Gradio asks in the order of arrival, so that one client could keep all others waiting. Here each has its share of the
      places, and clients whose pictures take long come after others, as `demo.fair_use` says; of the others the next to run is
      of the client for whom fewest run.
    - Gradio looks 1,000 times a second at who may run, for as long as somebody waits.
    - Gradio keeps messages that nobody fetches, for up to 2,000 sessions.
    """

    def __init__(self, *, max_size: int | None, **options: Any):
        super().__init__(max_size=None, **options)
        self.max_pictures, self.sleep_when_free = max_size, LOOK_SECONDS
        self.pending_messages_per_session = LRUCache(MAX_SESSIONS)

    async def push(self, body: Any, request: Any, username: str | None) -> tuple:
        fn = self.blocks.fns.get(body.fn_index)
        is_live = fn is not None and fn.connection == "stream"
        limit = fn.concurrency_limit if fn and is_live else self.max_pictures
        queues = self.event_queue_per_concurrency_id.values()
        waiting = [_client(event) for queue in queues for event in queue.queue if event.streaming == is_live]
        if isinstance(limit, int):
            own = waiting.count(_client(request))
            if len(waiting) >= limit or own >= most_waiting(limit):
                return False, BUSY, "queue_full"  # an answer with status 503 and this `detail`
        return await super().push(body, request, username)

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        queues = [
            queue
            for queue in self.event_queue_per_concurrency_id.values()
            if queue.queue and (queue.concurrency_limit is None or queue.current_concurrency < queue.concurrency_limit)
        ]
        random.shuffle(queues)
        for queue in queues:
            jobs = [event for job in self.active_jobs if job for event in job]
            running = Counter(_client(event) for event in jobs if event.concurrency_id == queue.concurrency_id)
            most = most_running(queue.concurrency_limit) if queue.concurrency_limit else len(self.active_jobs)
            free = [event for event in queue.queue if running[_client(event)] < most and _may_begin(event)]
            if free:
                event = min(free, key=lambda event: (_comes_after_others(event), running[_client(event)]))
                queue.queue.remove(event)
                if not event.streaming:
                    TURNS.note_wait(_client(event), time.monotonic() - event.enqueue_time)
                return [event], False, queue.concurrency_id
        return None

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        messages = self.pending_messages_per_session.get(event.session_hash)
        if messages is None or messages.qsize() > MAX_UNFETCHED:  # nobody reads
            event.alive, event.closed = False, True
            return
        super().send_message(event, event_message)
        if isinstance(event_message, ProcessCompletedMessage):
            asyncio.get_running_loop().call_later(
                UNFETCHED_SECONDS, self._drop_unfetched, event.session_hash, event._id
            )

    def _drop_unfetched(self, session_hash: str, event_id: str) -> None:
        if event_id in self.pending_event_ids_session.get(session_hash, ()):  # fetching it removes it
            self.pending_event_ids_session.pop(session_hash, None)
            self.pending_messages_per_session.pop(session_hash, None)


def _may_begin(event: Event) -> bool:
    return event.streaming or TURNS.may_begin(_client(event))


def _comes_after_others(event: Event) -> bool:
    return not event.streaming and TURNS.comes_after_others(_client(event))


def _client(asked: Any) -> str:
    """The key of the client of a request, or of an event's; kept, because a waiting queue asks 200 times a second."""
    request = asked.request if isinstance(asked, Event) else asked
    if not hasattr(request.state, "client_key"):
        request.state.client_key = client_key(request.client.host) if request.client else ""
    return request.state.client_key
