"""Every change to Gradio's own classes: what Gradio does, why this demo cannot have it, since which version, and where.

Checked against Gradio 6.31.0. At an upgrade read the linked lines again: a change may be needed no longer, or may need
another form. What Gradio lets a program set (arguments, environment variables, CSS) is not here but where it is set.
"""

import json
import logging
from typing import Any

import gradio as gr
import gradio.mcp
import gradio.queueing
from gradio.block_function import BlockFunction
from gradio.mcp import GradioMCPServer
from gradio.queueing import Queue
from gradio.state_holder import SessionState
from gradio_client import Client
from gradio_client.utils import is_file_obj, is_http_url_like, traverse
from starlette.requests import Request

from demo.limits import BUSY, INTERNAL_HEADER, INTERNAL_SECRET
from demo.uploads import in_own_folder


logger = logging.getLogger(__name__)
CLOSED_SESSION_SECONDS = 60  # how long the state of a closed page is kept
FILE_ROUTE = "/gradio_api/file="  # in the address of an uploaded file, before its path
INPUT_REFUSED = (
    "Expected a picture that was uploaded to this demo (POST it to /gradio_api/upload), and the types that the API page "
    "lists. Paths of the server and web addresses are never read."
)


def install_gradio_changes() -> None:
    """Put `FairQueue` and `JsonMCPServer` in place of Gradio's classes; call it before `Blocks.queue` and `launch`.

    Gradio looks both classes up by name and takes no other ones as arguments:
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/blocks.py#L2970 (queue) and
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L349 (MCP server).
    """
    gradio.queueing.Queue = FairQueue  # type: ignore[assignment, misc]  # mypy forbids to replace a class
    gradio.mcp.GradioMCPServer = JsonMCPServer  # type: ignore[misc]


def is_logged_in(request: Request) -> bool:
    """Whether a request to a route beside Gradio's comes from somebody who may ask; everybody may without DEMO_AUTH.

    Gradio's check belongs to its own routes: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/routes.py#L425
    """
    app = request.app
    if app.auth is None:
        return True
    cookies = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(request.cookies.get(cookie) in app.tokens for cookie in cookies)


class StrictBlocks(gr.Blocks):
    """Blocks that accept uploaded files only, and that keep no visitor's pictures and answers.

    - Since 5.0 Gradio downloads a web address that is given as a file, of any size, and asks a public name server for its
      host: https://github.com/gradio-app/gradio/pull/9383. `preprocess_data` refuses all of them.
    - Since 5.5 Gradio checks only files that carry the mark `meta`, for components with a data model:
      https://github.com/gradio-app/gradio/pull/9898. `_uploaded` marks every file.
    - An exception that is not a `gr.Error` reaches API clients as `error: null`, and its traceback with the visitor's input
      reaches the log: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/utils.py#L1889.
    - Since 5.23 each session keeps a copy of its last inputs and outputs for deep links:
      https://github.com/gradio-app/gradio/pull/10834. This page has none, and links could lead to somebody else's answer:
      https://github.com/gradio-app/gradio/issues/11201.
    - Since 4.25 the state of a closed page is kept for an hour: https://github.com/gradio-app/gradio/pull/7829.
    """

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list, state: SessionState | None, *args: Any, **kwargs: Any
    ) -> list:
        try:
            checked = traverse(inputs, _uploaded, is_file_obj)
            return await super().preprocess_data(block_fn, checked, state, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # the traceback in the log would hold the visitor's input
            raise
        except Exception as error:
            logger.warning("input refused: %s", type(error).__name__)  # its text may hold the visitor's input
            raise gr.Error(INPUT_REFUSED, title="This cannot be used", print_exception=False) from None
        finally:
            self._forget(state)

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list | dict, state: SessionState | None
    ) -> list:
        try:
            return await super().postprocess_data(block_fn, predictions, state)
        finally:
            self._forget(state)

    def _forget(self, state: SessionState | None) -> None:
        """https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/state_holder.py#L70"""
        if state is not None:
            state.config_values.clear()
            state.STATE_TTL_WHEN_CLOSED = CLOSED_SESSION_SECONDS
            # `gr.update` replaces a component of the session by one that holds the new values, such as a description.
            state.blocks_config.blocks.update(self.default_config.blocks)


def _uploaded(file: dict) -> dict:
    """The file with the mark that makes Gradio check that it was uploaded, and with its path in this process's folder.

    MCP clients name an upload by its address on this server: only the path in it counts. A page that was open before a
    restart names files in the folder of the earlier process. They are looked up in the present folder, so that the visitor
    is told that they were deleted.

    Raises:
        ValueError: the file is a web address.
    """
    path = file["path"]
    if is_http_url_like(path):
        _, route, path = path.partition(FILE_ROUTE)
        if not route or is_http_url_like(path):
            raise ValueError("a web address")
    return {**file, "path": in_own_folder(path), "meta": {"_type": "gradio.FileData"}}


class FairQueue(Queue):
    """A queue in which at most `max_size` pictures wait, and as many webcams as may run at the same time.

    Since 4.11 Gradio has one queue for each concurrency id, but `max_size` counts all of them together:
    https://github.com/gradio-app/gradio/pull/6814 and
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/queueing.py#L290. Since 5.0 a webcam holds its place for
    up to its time limit (https://github.com/gradio-app/gradio/pull/8941), so waiting webcams would keep every picture out.
    """

    def __init__(self, *, max_size: int | None, **options: Any):
        super().__init__(max_size=None, **options)
        self.max_pictures = max_size

    async def push(self, body: Any, *args: Any, **kwargs: Any) -> tuple:
        fn = self.blocks.fns.get(body.fn_index)
        is_live = fn is not None and fn.connection == "stream"
        limit = fn.concurrency_limit if fn and is_live else self.max_pictures
        queues = self.event_queue_per_concurrency_id.values()
        waiting = sum(event.streaming == is_live for queue in queues for event in queue.queue)
        if isinstance(limit, int) and waiting >= limit:
            return False, BUSY, "queue_full"  # an answer with status 503 and this `detail`
        return await super().push(body, *args, **kwargs)


class JsonMCPServer(GradioMCPServer):
    """An MCP server whose answers are JSON, and whose own requests are not counted as a client's.

    Since 5.28, the first version with MCP, Gradio answers with `str(output)`, which writes `None` and 'single quotes':
    https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/mcp.py#L1578. And one HTTP client uploads and asks for
    all MCP clients: https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/mcp.py#L592.
    """

    def postprocess_output_data(self, data: list, root_url: str) -> list:
        return [self.types.TextContent(type="text", text=json.dumps(output)) for output in data]

    def _get_or_create_client(self) -> Client:
        if self.local_url is None:  # before the start is over Gradio would ask whatever host the caller names
            raise ValueError("The demo is starting. Try again in a moment.")
        client = super()._get_or_create_client()
        client.headers[INTERNAL_HEADER] = INTERNAL_SECRET
        return client
