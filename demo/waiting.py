"""Who may wait for an answer: pictures and live webcams each among themselves, so that neither takes the others' places."""

from typing import Any

from gradio.queueing import Queue


class FairQueue(Queue):
    """At most `max_size` pictures wait, and as many webcams as may run.

    Gradio counts all together: webcams, which wait for each other for minutes, would keep every picture out.
    """

    def __init__(self, *, max_size: int | None, **options: Any):
        super().__init__(max_size=None, **options)
        self.most_pictures = max_size

    async def push(self, body: Any, *args: Any, **kwargs: Any) -> tuple:
        fn = self.blocks.fns.get(body.fn_index)
        is_live = fn is not None and fn.connection == "stream"
        queues = self.event_queue_per_concurrency_id.values()
        waiting = sum(event.streaming == is_live for queue in queues for event in queue.queue)
        if waiting >= (fn.concurrency_limit if is_live else self.most_pictures):
            return False, "", "queue_full"  # in the words of `say_busy`
        return await super().push(body, *args, **kwargs)
