"""The documented type of the HTTP API's answer."""

import json
import logging
from typing import Any

import gradio as gr
from gradio.components.api_component import Api as ApiOutput
from gradio.mcp import GradioMCPServer
from gradio.queueing import Queue
from gradio.state_holder import SessionState
from gradio_client import Client
from gradio_client.utils import is_file_obj, is_http_url_like, traverse

from demo.limits import OWN_HEADER, OWN_SECRET
from demo.uploads import as_own


logger = logging.getLogger(__name__)
__all__ = ["FACES_SCHEMA", "ApiOutput"]

_NUMBER, _NULL = {"type": "number"}, {"type": "null"}
_LABEL = {"anyOf": [{"type": "string"}, _NULL]}
_PROBABILITIES = {"anyOf": [{"type": "object", "additionalProperties": _NUMBER}, _NULL]}

# Null from `age` to `genders` where `abstained` gives a reason.
FACES_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "box": {"type": "array", "items": {"type": "integer"}},
            "detection_score": {"anyOf": [_NUMBER, _NULL]},
            "age": {"anyOf": [_NUMBER, _NULL]},
            "age_interval": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, _NULL]},
            "age_range": _LABEL,
            "age_ranges": _PROBABILITIES,
            "gender": _LABEL,
            "genders": _PROBABILITIES,
            "abstained": _LABEL,
        },
    },
}


FORGOTTEN_SECONDS = 60  # after a page was closed, what it had been answered; Gradio's own choice is an hour
UPLOADS = "/gradio_api/file="  # what an uploaded file's own address holds before its path
REFUSED = (
    "Expected a picture that was uploaded to this demo (POST it to /gradio_api/upload), and the types that the API page "
    "lists. Paths of the server and web addresses are never read."
)


class StrictBlocks(gr.Blocks):
    """Gradio would fetch any public address of any size, ask a public name server for others, and answer `error: null`.

    It would also keep the last pictures and answers of each visitor in memory, for links to a page as one left it, which
    this page does not offer.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: list, state: SessionState | None, *args: Any, **kwargs: Any
    ) -> list:
        try:
            checked = traverse(inputs, _uploaded, is_file_obj)
            return await super().preprocess_data(block_fn, checked, state, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # nor does the log get what the visitor sent
            raise
        except Exception as error:
            logger.warning("input refused: %s", type(error).__name__)  # its text would hold what the visitor sent
            raise gr.Error(REFUSED, title="This cannot be used", print_exception=False) from None
        finally:
            self._forget(state)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: SessionState | None) -> list:
        try:
            return await super().postprocess_data(block_fn, predictions, state)
        finally:
            self._forget(state)

    def _forget(self, state: SessionState | None) -> None:
        if state is not None:
            state.config_values.clear()
            state.STATE_TTL_WHEN_CLOSED = FORGOTTEN_SECONDS
            # `gr.update` leaves a component with the new words behind, such as a picture's description.
            state.blocks_config.blocks.update(self.default_config.blocks)


def _uploaded(file: dict) -> dict:
    """The file with the mark by which Gradio checks that it was uploaded; it believes the path of a picture without one.

    Tools name their upload by its address on this server: the path in it is what is checked. A page that was open before
    a restart names files that are gone: they are looked for here, so that the page hears that they were deleted.
    """
    path = file["path"]
    if is_http_url_like(path):
        _, own, path = path.partition(UPLOADS)
        if not own or is_http_url_like(path):
            raise ValueError("a web address")
    return {**file, "path": as_own(path), "meta": {"_type": "gradio.FileData"}}


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


class JsonMCPServer(GradioMCPServer):
    """Gradio's own answers with Python's way of writing values, which is not JSON: `None`, and 'single quotes'."""

    def postprocess_output_data(self, data: list, root_url: str) -> list:
        return [self.types.TextContent(type="text", text=json.dumps(output)) for output in data]

    def _get_or_create_client(self) -> Client:
        """The one by which the server uploads and asks for all assistants."""
        if self.local_url is None:  # not before the start is over: Gradio would ask whatever host the caller names
            raise ValueError("The demo is starting. Try again in a moment.")
        client = super()._get_or_create_client()
        client.headers[OWN_HEADER] = OWN_SECRET
        return client
